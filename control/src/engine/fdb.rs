//! Brings the forwarding table to what is wanted, and back.

use std::collections::HashMap;

use weft_tables::OutOfMemory;
use weft_tables::fdb::{FdbKey, FdbWriter, KeyHash};

/// More changed entries than these go into the table in bursts.
const BULK: usize = 64;

/// What a change needs of a table; a trait so that a test can have one that runs out of memory.
pub trait Entries {
    fn len(&self) -> usize;
    fn get(&self, key: FdbKey) -> Option<u32>;
    fn insert(&mut self, key: FdbKey, value: u32) -> Result<Option<u32>, OutOfMemory>;
    /// On an error: how many of the first entries are in the table nevertheless.
    fn insert_all(&mut self, entries: &[(FdbKey, u32)]) -> Result<(), (usize, OutOfMemory)>;
    fn remove(&mut self, key: FdbKey) -> Option<u32>;
    fn retain(&mut self, keep: &mut dyn FnMut(FdbKey, u32) -> bool);
}

impl<H: KeyHash> Entries for FdbWriter<H> {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, key: FdbKey) -> Option<u32> {
        self.get(key)
    }

    fn insert(&mut self, key: FdbKey, value: u32) -> Result<Option<u32>, OutOfMemory> {
        self.insert(key, value)
    }

    fn insert_all(&mut self, entries: &[(FdbKey, u32)]) -> Result<(), (usize, OutOfMemory)> {
        self.insert_all(entries)
    }

    fn remove(&mut self, key: FdbKey) -> Option<u32> {
        self.remove(key)
    }

    fn retain(&mut self, keep: &mut dyn FnMut(FdbKey, u32) -> bool) {
        self.retain(keep);
    }
}

/// Keys that were changed, in turn, and the value each had before (`None`: it was not there).
#[derive(Debug, Default)]
pub struct Undo(Vec<(FdbKey, Option<u32>)>);

/// Brings `table` to `wanted`: what is missing or has another value is inserted, what is not wanted removed. What was
/// done is in `undo`, also after an error. Insertions come first, since only they can fail.
pub fn change(
    table: &mut impl Entries,
    wanted: impl IntoIterator<Item = (FdbKey, u32)>,
    undo: &mut Undo,
) -> Result<(), OutOfMemory> {
    // By key, so that no key comes twice: what an insertion finds is then what was there before the change.
    let wanted: HashMap<FdbKey, u32> = wanted.into_iter().collect();
    let (mut changes, mut before) = (Vec::new(), Vec::new());
    for (key, value) in &wanted {
        let old = table.get(*key);
        if old != Some(*value) {
            changes.push((*key, *value));
            before.push((*key, old));
        }
    }
    if changes.len() > BULK {
        let result = table.insert_all(&changes);
        let done = result.as_ref().map_or_else(|(done, _)| *done, |()| changes.len());
        undo.0.extend(&before[..done]);
        result.map_err(|(_, e)| e)?;
    } else {
        for ((key, value), before) in changes.into_iter().zip(before) {
            table.insert(key, value)?;
            undo.0.push(before);
        }
    }
    if wanted.len() < table.len() {
        table.retain(&mut |key, value| {
            let keep = wanted.contains_key(&key);
            if !keep {
                undo.0.push((key, Some(value)));
            }
            keep
        });
    }
    Ok(())
}

/// Takes a change back. It cannot fail for want of memory: entries go, or get back the value they had in their place;
/// only a change that came to its end has removed any, and nothing fails after that.
pub fn unmake(table: &mut impl Entries, undo: Undo) {
    for (key, before) in undo.0.into_iter().rev() {
        match before {
            Some(value) => {
                if let Err(e) = table.insert(key, value) {
                    tracing::error!("undoing a change of the FDB: {e}");
                }
            }
            None => drop(table.remove(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_tables::fdb::{Fdb, FdbConfig};
    use weft_tables::qsbr::Domain;

    /// A table with memory for so many new entries.
    #[derive(Default)]
    struct Limited {
        entries: HashMap<FdbKey, u32>,
        room: usize,
        bursts: usize,
    }

    impl Entries for Limited {
        fn len(&self) -> usize {
            self.entries.len()
        }

        fn get(&self, key: FdbKey) -> Option<u32> {
            self.entries.get(&key).copied()
        }

        fn insert(&mut self, key: FdbKey, value: u32) -> Result<Option<u32>, OutOfMemory> {
            if !self.entries.contains_key(&key) {
                self.room = self.room.checked_sub(1).ok_or(OutOfMemory::Allocator { bytes: 32 })?;
            }
            Ok(self.entries.insert(key, value))
        }

        fn insert_all(&mut self, entries: &[(FdbKey, u32)]) -> Result<(), (usize, OutOfMemory)> {
            self.bursts += 1;
            for (done, (key, value)) in entries.iter().enumerate() {
                self.insert(*key, *value).map_err(|e| (done, e))?;
            }
            Ok(())
        }

        fn remove(&mut self, key: FdbKey) -> Option<u32> {
            let value = self.entries.remove(&key);
            self.room += usize::from(value.is_some());
            value
        }

        fn retain(&mut self, keep: &mut dyn FnMut(FdbKey, u32) -> bool) {
            self.entries.retain(|k, v| keep(*k, *v));
        }
    }

    fn key(i: u32) -> FdbKey {
        FdbKey::new(3, u64::from(i))
    }

    /// Entries `from..to`; every third one has the value that distinguishes `version`s.
    fn set(from: u32, to: u32, version: u32) -> HashMap<FdbKey, u32> {
        (from..to).map(|i| (key(i), if i % 3 == 0 { i + version * 1_000_000 } else { i })).collect()
    }

    #[test]
    fn a_change_that_fails_anywhere_is_taken_back_whole() {
        // In bursts and one by one; 20 entries go, as many stay or change their value, and `new` come.
        for new in [30, 200] {
            let (before, wanted) = (set(0, 40, 0), set(20, 40 + new, 1));
            for room in 0..new as usize {
                let mut table = Limited { entries: before.clone(), room, bursts: 0 };
                let mut undo = Undo::default();
                assert!(change(&mut table, wanted.clone(), &mut undo).is_err(), "room for {room} of {new}");
                assert_eq!(table.bursts > 0, new as usize > BULK);
                assert_eq!(table.room, 0, "it failed in the middle");
                unmake(&mut table, undo);
                assert_eq!((&table.entries, table.room), (&before, room));
            }
            let mut table = Limited { entries: before.clone(), room: new as usize, bursts: 0 };
            change(&mut table, wanted.clone(), &mut Undo::default()).unwrap();
            assert_eq!(table.entries, wanted);
        }
    }

    #[test]
    fn the_real_table_is_brought_to_what_is_wanted_and_back() {
        let (mut table, _) = Fdb::new(&Domain::new(1), FdbConfig::default());
        for (old, new) in
            [((0, 0), (0, 5000)), ((0, 5000), (4000, 4050)), ((0, 50), (20, 60)), ((0, 70), (0, 0))]
        {
            let (before, wanted) = (set(old.0, old.1, 0), set(new.0, new.1, 1));
            change(&mut table, before.clone(), &mut Undo::default()).unwrap();
            let mut undo = Undo::default();
            change(&mut table, wanted.clone(), &mut undo).unwrap();
            assert_eq!(table.iter().collect::<HashMap<_, _>>(), wanted);
            assert_eq!(table.len(), wanted.len());
            unmake(&mut table, undo);
            assert_eq!(table.iter().collect::<HashMap<_, _>>(), before);
        }
    }

    #[test]
    fn what_is_as_wanted_is_not_written() {
        let (mut table, _) = Fdb::new(&Domain::new(1), FdbConfig::default());
        let wanted = set(0, 1000, 0);
        change(&mut table, wanted.clone(), &mut Undo::default()).unwrap();
        let mut undo = Undo::default();
        change(&mut table, wanted, &mut undo).unwrap();
        assert!(undo.0.is_empty());
    }
}
