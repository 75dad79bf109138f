//! What goes out: the sections `transfer`, `swarm` and `campaign`, and what the tracker answers.
