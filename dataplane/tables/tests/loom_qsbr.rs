//! Reclamation under the model checker: every interleaving, and every value a load may return.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p weft-tables --release --test 'loom_*'
//! ```
//!
//! What is published carries a canary: readers and its drop touch a cell whose accesses loom checks for
//! races, so that freeing too early fails, also where real memory would happen to be intact.
#![cfg(loom)]

use std::sync::Arc;

use loom::{cell::UnsafeCell, thread};
use weft_tables::{
    Published, SlotTable,
    qsbr::{Domain, Reader},
};

struct Canary {
    number: u32,
    alive: UnsafeCell<bool>,
}

// SAFETY: loom checks every access to `alive`; that is what it is for.
unsafe impl Sync for Canary {}

impl Canary {
    fn new(number: u32) -> Self {
        Self { number, alive: UnsafeCell::new(true) }
    }

    fn check(&self) -> u32 {
        // SAFETY: a shared access, which loom fails if it races with the one in `drop`.
        self.alive.with(|alive| assert!(unsafe { *alive }));
        self.number
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        // SAFETY: the owner's access, which loom fails if it races with the one in `check`.
        self.alive.with_mut(|alive| unsafe { *alive = false });
    }
}

fn setup(readers: usize) -> (Arc<Domain>, Arc<Published<Canary>>) {
    let domain = Domain::new(readers);
    let published = Arc::new(Published::new(&domain, Canary::new(0)));
    (domain, published)
}

fn online(domain: &Arc<Domain>) -> Reader {
    let mut reader = domain.register("reader").unwrap();
    reader.online();
    reader
}

/// A reader in its loop against two swaps: what it holds stays alive, and numbers never go back.
#[test]
fn swap_against_quiescent() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (domain, published) = setup(1);
        let mut reader = online(&domain);
        let worker = {
            let published = Arc::clone(&published);
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..2 {
                    let held = published.load(&reader);
                    let number = held.check();
                    assert!(number >= last);
                    last = number;
                    held.check();
                    reader.quiescent();
                }
            })
        };
        published.swap(Canary::new(1));
        published.swap(Canary::new(2));
        worker.join().unwrap();
        domain.collect();
        assert_eq!(domain.pending().items, 0);
    });
}

/// A reader that comes online while the control side unpublishes and looks for readers.
#[test]
fn swap_against_coming_online() {
    loom::model(|| {
        let (domain, published) = setup(1);
        let mut reader = domain.register("reader").unwrap();
        let worker = {
            let published = Arc::clone(&published);
            thread::spawn(move || {
                reader.online();
                let held = published.load(&reader);
                held.check();
                held.check();
            })
        };
        published.swap(Canary::new(1));
        worker.join().unwrap();
    });
}

/// A reader that goes offline and comes back: the control side may see only the value after.
#[test]
fn swap_against_a_short_absence() {
    loom::model(|| {
        let (domain, published) = setup(1);
        let mut reader = online(&domain);
        let worker = {
            let published = Arc::clone(&published);
            thread::spawn(move || {
                published.load(&reader).check();
                reader.offline();
                reader.online();
                published.load(&reader).check();
            })
        };
        published.swap(Canary::new(1));
        domain.collect();
        worker.join().unwrap();
    });
}

/// Two control threads: what one retires after the other looked at the readers is not freed by that look.
#[test]
fn collecting_against_retiring_and_coming_online() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (domain, published) = setup(1);
        // Something for the collector to take.
        published.swap(Canary::new(1));
        let holder = domain.register("reader").unwrap();
        let collector = {
            let domain = Arc::clone(&domain);
            thread::spawn(move || {
                domain.retire(Box::new(()));
            })
        };
        let worker = {
            let published = Arc::clone(&published);
            thread::spawn(move || {
                let mut reader = holder;
                reader.online();
                let held = published.load(&reader);
                held.check();
                held.check();
            })
        };
        published.swap(Canary::new(2));
        collector.join().unwrap();
        worker.join().unwrap();
    });
}

/// After `synchronize` the control side may do what no reader must notice.
#[test]
fn synchronize_waits_for_the_reader() {
    loom::model(|| {
        let domain = Domain::new(1);
        let slots = Arc::new(SlotTable::new(&domain, 1));
        let state = Arc::new(Canary::new(7));
        slots.set(0, Some(()));
        let mut reader = online(&domain);
        let worker = {
            let (slots, state) = (Arc::clone(&slots), Arc::clone(&state));
            thread::spawn(move || {
                if slots.get(0, &reader).is_some() {
                    state.check();
                }
                reader.quiescent();
                if slots.get(0, &reader).is_some() {
                    state.check();
                }
            })
        };
        slots.set(0, None);
        domain.synchronize(std::time::Duration::from_secs(1)).unwrap();
        // SAFETY: loom checks that no reader's access can be concurrent.
        state.alive.with_mut(|alive| unsafe { *alive = true });
        worker.join().unwrap();
    });
}

/// Dropping a published value, and unregistering, are covered by the same protocol.
#[test]
fn dropping_the_published_value() {
    loom::model(|| {
        let (domain, published) = setup(1);
        let reader = online(&domain);
        let shared = Arc::clone(&published);
        let worker = thread::spawn(move || {
            let held = shared.load(&reader);
            held.check();
            drop(shared);
            held.check();
        });
        published.swap(Canary::new(1));
        drop(published);
        worker.join().unwrap();
        domain.collect();
        assert_eq!(domain.pending().items, 0);
    });
}
