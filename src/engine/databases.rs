//! Sixteen databases, of which number 0 is a store that others may hold as well.

use std::sync::Arc;

use parking_lot::RwLock;

use super::store::{Options, Store};
use crate::Result;

/// Databases by number.
pub struct Databases {
    stores: RwLock<Vec<Option<Arc<Store>>>>,
}

impl Databases {
    /// How many there are.
    pub const COUNT: u8 = 16;

    /// `zero` is number 0.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(zero: Arc<Store>) -> Result<Databases> {
        let mut stores = vec![None; usize::from(Self::COUNT)];
        stores[0] = Some(zero);
        Ok(Databases {
            stores: RwLock::new(stores),
        })
    }

    /// A database; None where nothing was ever written to it.
    pub fn get(&self, db: u8) -> Option<Arc<Store>> {
        self.stores.read().get(usize::from(db))?.clone()
    }

    /// A database, made where it is not there yet.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn get_or_make(&self, db: u8) -> Result<Arc<Store>> {
        let place = &mut self.stores.write()[usize::from(db)];
        match place {
            Some(store) => Ok(Arc::clone(store)),
            None => Ok(Arc::clone(
                place.insert(Arc::new(Store::new(&Options::default())?)),
            )),
        }
    }
}
