//! The map of the campus: campus.ini.
