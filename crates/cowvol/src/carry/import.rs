//! `cowvol import`: makes a user's volume of a stream that `cowvol export` wrote.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use images::POOL_LOCK;
use images::bases::{self, Entry};
use jsonpipe::signals::Deferred;
use jsonpipe::{Answer, Common, Document, Exit, ExitContext, Pipe, io_error, lock, signals};
use progress::{Progress, Size};

use super::place::Source;
use super::stream::{Carried, Header, Reader};
use super::{Carrier, Filling};
use crate::backend::{Item, State, VolumeId};
use crate::evict::{self, Eviction, need_bytes};
use crate::report::{self, Evicted, Gone, Imported};
use crate::request::Import;
use crate::settings::{self, Room};
use crate::token::Token;
use crate::{TOOL, event, promise};

/// Makes it. Status 65 when the stream is not whole, of another user or of another base; 66 when the
/// base is not here, 78 when another generation of it is; 73 when there is no room, or the user has a
/// volume that is not to be replaced; 75 when that is in use.
pub fn import<B: Carrier>(
    common: &Common,
    backend: &B,
    pipe: &Pipe,
    options: &Import,
) -> anyhow::Result<Answer> {
    let file = open(&options.from)?; // a FIFO, when it has a writer
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    let ending_signals = signals::defer()?;
    let source = Source {
        file,
        signals: &ending_signals,
    };
    let (header, stream) = Reader::new(BufReader::new(source), &options.from)?;
    let token = Token::of(&options.user);
    if header.token != token.as_str() {
        return Err(Exit::Data.error(format_args!(
            "reading {}: it is of another user; name the one whose volume it is",
            options.from.display()
        )));
    }
    let importing = Importing {
        common,
        backend,
        pipe,
        options,
        room: settings::read(common)?.room,
        header,
        token,
        ending_signals: &ending_signals,
    };
    let done = match options.dry_run {
        true => importing.would_do(stream)?,
        false => importing.run(stream, is_file)?,
    };
    let mut document = Document::default();
    document.set(
        "imported",
        &Imported {
            changed: true,
            user: &options.user,
            carried: &done.carried,
            reserved: importing.room.reserve.is_none(),
            held_bytes: done.now.map_or(0, |state| state.held_bytes),
            evicted: &done.evicted,
            replaced: &done.replaced,
        },
    )?;
    Ok(Answer::yes(document)
        .staying(!options.dry_run)
        .holding(ending_signals))
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).map_err(|error| {
        io_error(
            error,
            Exit::of_read,
            format_args!("opening {}", path.display()),
        )
    })
}

/// A stream whose volume a user is to have.
struct Importing<'a, B> {
    common: &'a Common,
    backend: &'a B,
    pipe: &'a Pipe,
    options: &'a Import,
    room: Room,
    header: Header,
    token: Token,
    ending_signals: &'a Deferred,
}

/// Where it goes.
struct Destination<B: Carrier> {
    id: VolumeId,
    base: B::Base,
    bases: Vec<Entry>,
    /// The volume that it replaces.
    before: Option<State>,
}

/// The result.
struct Done {
    carried: report::Carried,
    evicted: Vec<Evicted>,
    replaced: Vec<Evicted>,
    /// `None` in a dry run.
    now: Option<State>,
}

impl<B: Carrier> Importing<'_, B> {
    fn would_do(&self, stream: Reader<'_, impl Read>) -> anyhow::Result<Done> {
        let destination = self.destination()?;
        let evicted = self.eviction(&destination).would_go(self.backend)?;
        let carried = stream.for_each(&mut |_, _| Ok(()))?;
        Ok(Done {
            carried: self.carried(&destination, &carried),
            evicted,
            replaced: replaced(&destination),
            now: None,
        })
    }

    fn run(&self, stream: Reader<'_, impl Read>, is_file: bool) -> anyhow::Result<Done> {
        if is_file {
            self.check_before_eviction()?;
        }
        let mut lock = Some(self.lock()?);
        let destination = self.destination()?;
        let evicted = self
            .eviction(&destination)
            .make_room(self.backend, self.pipe)?;
        let reserve = match self.room.reserve {
            Some(_) => None,
            None => Some(self.backend.whole_bytes(&destination.base)),
        };
        let (mut carried, mut old) = (None, None);
        let replaced = replaced(&destination);
        let fill = |filling: &mut dyn Filling| {
            // The room is held. Filling it takes long, and logins go on meanwhile.
            drop(lock.take());
            let filled = self.fill(filling, stream);
            // Also to remove it: no login sees a half.
            let locked = self.lock().map(|held| lock = Some(held));
            let carried = carried.insert(self.carried(&destination, &filled?));
            locked?;
            old = self.hold_replaced(&destination)?;
            let id = &destination.id;
            event::log(self.common, self.pipe, "replace", Some(id), &replaced);
            event::log(self.common, self.pipe, "import", None, &[&*carried]);
            Ok(())
        };
        let (id, base) = (&destination.id, &destination.base);
        let made = self.backend.create_filled(id, base, reserve, fill);
        let now = made.map_err(|error| evict::after(evicted.len(), error))?;
        // Until here nothing could open it.
        if let Some(Err(error)) = old.map(|held| self.backend.remove_replaced(held)) {
            self.pipe
                .warn(format_args!("{error:#}; a later call removes it"));
        }
        drop(lock);
        Ok(Done {
            carried: carried.exit(Exit::Software, || "importing: nothing was filled")?,
            evicted,
            replaced,
            now: Some(now),
        })
    }

    fn lock(&self) -> anyhow::Result<File> {
        lock::wait(self.common, POOL_LOCK, self.ending_signals)
    }

    /// Compares the stream with this machine.
    fn destination(&self) -> anyhow::Result<Destination<B>> {
        let bases = bases::read(self.common)?;
        let entry = self.offered(&bases)?;
        let base = self.backend.open_base(entry)?;
        self.header
            .base
            .check_is(&self.backend.origin(&base)?)
            .map_err(|message| {
                Exit::Data.error(format_args!(
                    "reading {}: made on another {}@{}: {message}; give both machines the same image",
                    self.options.from.display(),
                    entry.name,
                    entry.generation
                ))
            })?;
        let id = VolumeId::of(&self.token, entry);
        let before = self.backend.state(&id)?;
        if before.is_some() && !self.options.replace {
            return Err(Exit::CantCreate.error(format_args!(
                "importing {}: the user has a volume there; --replace removes it, with the user's files",
                self.backend.disk_of(&id).path
            )));
        }
        let destination = Destination {
            id,
            base,
            bases,
            before,
        };
        drop(self.hold_replaced(&destination)?);
        if self.room.reserve.is_none() {
            self.backend.check_can_reserve()?;
        }
        Ok(destination)
    }

    /// The base of the stream among those of this machine.
    fn offered<'b>(&self, bases: &'b [Entry]) -> anyhow::Result<&'b Entry> {
        let from = self.options.from.display();
        let base = &self.header.base;
        let of = format!("{}@{}", base.name, base.generation);
        let Some(entry) = bases.iter().find(|entry| entry.name == base.name) else {
            return Err(Exit::NoInput.error(format_args!(
                "importing {from}: it was made on {of}, and {} does not offer {}; install it first",
                bases::PATH,
                base.name
            )));
        };
        if entry.generation != base.generation {
            return Err(Exit::Config.error(format_args!(
                "importing {from}: it was made on {of}, and this machine has {}@{}; import it where {of} is current",
                entry.name, entry.generation
            )));
        }
        Ok(entry)
    }

    /// Keeps programs from opening the volume that is replaced. Status 75 when one uses it, when a
    /// session has it, or had it since.
    fn hold_replaced(&self, destination: &Destination<B>) -> anyhow::Result<Option<B::Held>> {
        let id = &destination.id;
        self.offered(&bases::read(self.common)?)?;
        let is_promised = promise::all(self.common)?.contains(id);
        let held = match destination.before {
            Some(_) => self.backend.hold(&Item::whole(id.clone()))?,
            None => None,
        };
        let is_free = held.is_some() == destination.before.is_some() && !is_promised;
        // Its reservation may be gone meanwhile.
        let login = |state: Option<State>| state.map(|state| state.last_login);
        if is_free && login(self.backend.state(id)?) == login(destination.before) {
            return Ok(held);
        }
        Err(Exit::TemporaryFailure.error(format_args!(
            "importing {}: a session or a program uses it; try again when that has ended",
            self.backend.disk_of(id).path
        )))
    }

    fn eviction<'a>(&'a self, destination: &'a Destination<B>) -> Eviction<'a> {
        let whole = || self.backend.whole_bytes(&destination.base);
        Eviction {
            common: self.common,
            bases: &destination.bases,
            for_whom: &destination.id,
            need_bytes: need_bytes(
                self.backend,
                &destination.base,
                self.room,
                self.room.reserve.unwrap_or_else(whole),
                0,
            ),
        }
    }

    /// Where volumes of others would go for it, reads a file to its end first: nothing goes for a
    /// stream that is damaged. A pipe can be read only once.
    fn check_before_eviction(&self) -> anyhow::Result<()> {
        let destination = self.destination()?;
        let would_go = self.eviction(&destination).would_go(self.backend)?;
        if would_go.is_empty() {
            return Ok(());
        }
        let source = Source {
            file: open(&self.options.from)?,
            signals: self.ending_signals,
        };
        let (_, stream) = Reader::new(BufReader::new(source), &self.options.from)?;
        stream.for_each(&mut |_, _| Ok(())).map(drop)
    }

    fn fill(
        &self,
        filling: &mut dyn Filling,
        stream: Reader<'_, impl Read>,
    ) -> anyhow::Result<Carried> {
        let mut progress = Progress::new(TOOL);
        let doing = format!("importing {}", self.options.from.display());
        let disk_bytes = self.header.base.virtual_bytes;
        let mut changed_bytes = 0;
        let carried = stream.for_each(&mut |offset, content| {
            changed_bytes += content.bytes();
            let more = format!(" looked through, {} changed", Size(changed_bytes));
            progress.show_with(&doing, offset, disk_bytes, more);
            filling.put(offset, content)
        })?;
        filling.finish()?;
        Ok(carried)
    }

    fn carried(&self, destination: &Destination<B>, carried: &Carried) -> report::Carried {
        report::Carried::of(&destination.id, self.header.base.virtual_bytes, carried)
    }
}

fn replaced<B: Carrier>(destination: &Destination<B>) -> Vec<Evicted> {
    let before = destination.before.iter();
    before
        .map(|state| {
            let freed_bytes = state.freeable_bytes;
            Evicted::of(Gone::Volume, &destination.id, freed_bytes, state.last_login)
        })
        .collect()
}
