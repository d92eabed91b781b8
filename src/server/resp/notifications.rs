//! Keyspace notifications: events of the engine, published on channels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::keyspace::Keyspace;
use crate::engine::{Classes, Notification};
use crate::server::Shared;

/// What is published, as bits beyond the engine's classes.
const KEYSPACE: u32 = 1 << 16;
const KEYEVENT: u32 = 1 << 17;
/// Classes of types that do not exist here and of key misses, which are taken and never published.
const LETTERS: [(u8, u32); 12] = [
    (b'g', Classes::GENERIC.0),
    (b'$', Classes::STRING.0),
    (b'l', 1 << 18),
    (b's', 1 << 19),
    (b'h', 1 << 20),
    (b'z', 1 << 21),
    (b'x', Classes::EXPIRED.0),
    (b'e', Classes::EVICTED.0),
    (b't', 1 << 22),
    (b'd', 1 << 23),
    (b'm', 1 << 24),
    (b'n', Classes::NEW.0),
];
/// What `A` stands for: all but `m` and `n`.
const ALL: &[u8] = b"g$lshzxetd";

/// Which events are published, and the events on their way.
#[derive(Default)]
pub(crate) struct Notifications {
    flags: AtomicU32,
    /// Held while events are taken and published, so that their order stays.
    taken: Mutex<Vec<Notification>>,
}

fn bit(letter: u8) -> Option<u32> {
    LETTERS
        .iter()
        .find(|(known, _)| *known == letter)
        .map(|(_, bit)| *bit)
}

/// The flags of a text such as `KEA`; None where a letter means nothing.
fn parse(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |flags, letter| {
        let more = match letter {
            b'K' => KEYSPACE,
            b'E' => KEYEVENT,
            b'A' => ALL.iter().filter_map(|&letter| bit(letter)).sum(),
            &other => bit(other)?,
        };
        Some(flags | more)
    })
}

impl Notifications {
    /// Whether every letter of a text means something.
    pub(crate) fn knows(text: &[u8]) -> bool {
        parse(text).is_some()
    }

    /// Changes what is published, by a text that [`Notifications::knows`].
    pub(crate) fn configure(&self, text: &[u8], keys: &mut Keyspace<'_, '_>) -> crate::Result<()> {
        let flags = parse(text).unwrap_or_default();
        let classes = if flags & (KEYSPACE | KEYEVENT) == 0 {
            0
        } else {
            flags & 0xffff
        };
        keys.set_notify(Classes(classes))?;
        self.flags.store(flags, Ordering::SeqCst);
        Ok(())
    }

    /// As [`Notifications::configure`] takes it.
    pub(crate) fn text(&self) -> String {
        let flags = self.flags.load(Ordering::SeqCst);
        let mut text = String::new();
        let all: u32 = ALL.iter().filter_map(|&letter| bit(letter)).sum();
        if flags & all == all {
            text.push('A');
        } else {
            let set = ALL
                .iter()
                .filter(|&&letter| bit(letter).is_some_and(|bit| flags & bit != 0));
            text.extend(set.map(|&letter| char::from(letter)));
        }
        for (flag, letter) in [(KEYSPACE, 'K'), (KEYEVENT, 'E')] {
            if flags & flag != 0 {
                text.push(letter);
            }
        }
        for letter in [b'm', b'n'] {
            if bit(letter).is_some_and(|bit| flags & bit != 0) {
                text.push(char::from(letter));
            }
        }
        text
    }

    #[inline]
    pub(crate) fn are_on(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & (KEYSPACE | KEYEVENT) != 0
    }

    /// Publishes what has happened by now.
    pub(crate) fn publish(&self, shared: &Arc<Shared>) {
        let mut events = self.taken.lock();
        // Without memory the events wait for the next time.
        if shared.databases.take_events(&mut events).is_err() {
            return;
        }
        let flags = self.flags.load(Ordering::SeqCst);
        for event in events.drain(..) {
            if event.event.class().0 & flags == 0 {
                continue;
            }
            let name = event.event.name();
            if flags & KEYSPACE != 0 {
                let channel =
                    [format!("__keyspace@{}__:", event.db).as_bytes(), &event.key].concat();
                shared
                    .resp
                    .pubsub
                    .publish(shared, &channel, name.as_bytes());
            }
            if flags & KEYEVENT != 0 {
                let channel = format!("__keyevent@{}__:{name}", event.db);
                shared
                    .resp
                    .pubsub
                    .publish(shared, channel.as_bytes(), &event.key);
            }
        }
    }
}
