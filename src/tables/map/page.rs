//! Entries copied out of a map, so that no lock is held while somebody looks at them.

use super::leaf::Value;
use super::shared::Shared;
use crate::{Error, Result};

/// Some entries, keys and small values in one piece of memory.
#[derive(Default)]
pub struct Page {
    data: Vec<u8>,
    /// Where each entry's key ends, and its value if it is in `data`.
    ends: Vec<(usize, usize)>,
    apart: Vec<(usize, Shared)>,
}

impl Page {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Copies an entry to the end.
    pub(super) fn push(&mut self, key: &[u8], value: Option<Value<'_>>) -> Result<()> {
        let inline: &[u8] = match value {
            Some(Value::Inline(slice)) => slice,
            _ => &[],
        };
        let room = key.len() + inline.len();
        self.data
            .try_reserve(room)
            .map_err(|_| Error::OutOfMemory)?;
        self.ends.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        if let Some(Value::Apart(_)) = value {
            self.apart.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        }
        self.data.extend_from_slice(key);
        let key_end = self.data.len();
        self.data.extend_from_slice(inline);
        if let Some(Value::Apart(shared)) = value {
            self.apart.push((self.ends.len(), shared.clone()));
        }
        self.ends.push((key_end, self.data.len()));
        Ok(())
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        let mut apart = self.apart.iter().peekable();
        self.ends
            .iter()
            .enumerate()
            .map(move |(index, &(key_end, end))| {
                let key = &self.data[start..key_end];
                let inline = &self.data[key_end..end];
                start = end;
                match apart.next_if(|(at, _)| *at == index) {
                    Some((_, shared)) => (key, shared.as_slice()),
                    None => (key, inline),
                }
            })
    }
}
