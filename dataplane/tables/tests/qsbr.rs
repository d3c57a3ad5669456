//! Grace periods as their users see them: who waits for whom, for how long, and what is said about it.
#![cfg(not(loom))]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use weft_tables::{
    OutOfMemory, Published, SlotTable, SlotView,
    fdb::{Fdb, FdbConfig, FdbKey, FdbWriter},
    qsbr::{Domain, Pending, Reader, RegisterError},
};

/// What may be moved to and shared with other threads, as the types have it.
const _: () = {
    const fn send<T: Send>() {}
    const fn sync<T: Sync>() {}
    send::<Domain>();
    sync::<Domain>();
    send::<Reader>();
    send::<Published<Vec<u8>>>();
    sync::<Published<Vec<u8>>>();
    send::<SlotTable<Vec<u8>>>();
    sync::<SlotTable<Vec<u8>>>();
    send::<Fdb>();
    sync::<Fdb>();
    send::<FdbWriter>();
};

/// And what may not. A trait that is implemented twice for a type which has the property makes the choice
/// between the two ambiguous: it compiles only for types which have it not.
macro_rules! assert_not {
    ($name:ident: $type:ty, $property:ident) => {
        const _: () = {
            trait Either<A> {
                fn choose() {}
            }
            impl<T: ?Sized> Either<()> for T {}
            struct Has;
            impl<T: ?Sized + $property> Either<Has> for T {}
            #[allow(dead_code)]
            fn $name() {
                <$type as Either<_>>::choose();
            }
        };
    };
}
assert_not!(a_reader_is_one_threads: Reader, Sync);
assert_not!(a_view_is_one_threads: SlotView<'static, u8>, Send);

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counted() -> (Arc<AtomicUsize>, impl Fn() -> Box<Counted>) {
    let drops = Arc::new(AtomicUsize::new(0));
    let make = {
        let drops = Arc::clone(&drops);
        move || Box::new(Counted(Arc::clone(&drops)))
    };
    (drops, make)
}

fn online(domain: &Arc<Domain>, name: &str) -> Reader {
    let mut reader = domain.register(name).unwrap();
    reader.online();
    reader
}

#[test]
fn retired_memory_waits_for_every_online_reader() {
    let domain = Domain::new(4);
    let (drops, item) = counted();
    let mut one = online(&domain, "one");
    let mut two = online(&domain, "two");
    let _offline = domain.register("three").unwrap();
    domain.retire(item());
    let dropped = || drops.load(Ordering::Relaxed);
    assert_eq!((domain.collect(), dropped()), (0, 0));
    one.quiescent();
    one.quiescent();
    assert_eq!((domain.collect(), dropped()), (0, 0));
    two.quiescent();
    assert_eq!((domain.collect(), dropped()), (1, 1));
    // Going offline counts as well, and so does unregistering.
    domain.retire(item());
    one.offline();
    assert_eq!(domain.collect(), 0);
    drop(two);
    assert_eq!((domain.collect(), dropped()), (1, 2));
    // With nobody online it is freed at once.
    domain.retire(item());
    assert_eq!(dropped(), 3);
    // A reader that comes later is not waited for.
    one.online();
    domain.retire(item());
    let _late = online(&domain, "late");
    one.quiescent();
    assert_eq!((domain.collect(), dropped()), (1, 4));
}

#[test]
fn pending_memory_is_visible() {
    let domain = Domain::new(1);
    let mut reader = online(&domain, "worker");
    assert_eq!(domain.pending(), Pending::default());
    domain.retire(Box::new([0u8; 1000]));
    domain.retire_sized(Box::new(()), 5000);
    thread::sleep(Duration::from_millis(5));
    let pending = domain.pending();
    assert_eq!((pending.items, pending.bytes_hint), (2, 6000));
    assert!(pending.oldest >= Duration::from_millis(5));
    reader.quiescent();
    assert_eq!(domain.collect(), 2);
    assert_eq!(domain.pending(), Pending::default());
}

#[test]
fn an_items_drop_may_retire_and_swap() {
    let domain = Domain::new(1);
    let (drops, item) = counted();
    let inner = Published::new(&domain, item());
    let outer = Published::new(&domain, inner);
    drop(outer);
    domain.collect();
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn what_waits_is_freed_with_the_domain() {
    let (drops, item) = counted();
    let domain = Domain::new(1);
    let reader = online(&domain, "worker");
    domain.retire(item());
    drop(reader);
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(domain);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn readers_are_limited_and_places_are_reused() {
    let domain = Domain::new(2);
    let one = domain.register("one").unwrap();
    let _two = domain.register("two").unwrap();
    let error = domain.register("three").unwrap_err();
    assert_eq!(error, RegisterError::Full { name: "three".into(), max: 2 });
    assert_eq!(error.to_string(), "cannot register reader \"three\": all 2 places are taken");
    drop(one);
    assert!(!domain.register("three").unwrap().is_online());
}

#[test]
fn synchronize_names_who_is_late() {
    let domain = Domain::new(3);
    let _asleep = domain.register("asleep").unwrap();
    let mut late = online(&domain, "worker 1");
    let started = Instant::now();
    let stalled = domain.synchronize(Duration::from_millis(20)).unwrap_err();
    assert_eq!(stalled.names, ["worker 1"]);
    assert!(stalled.waited >= Duration::from_millis(20) && started.elapsed() < Duration::from_secs(5));
    assert!(stalled.to_string().ends_with("still waiting for worker 1"), "{stalled}");
    late.offline();
    assert_eq!(domain.synchronize(Duration::ZERO), Ok(()));
}

#[test]
fn synchronize_ends_with_the_last_report() {
    let domain = Domain::new(1);
    let (drops, item) = counted();
    let mut reader = online(&domain, "worker");
    domain.retire(item());
    thread::scope(|scope| {
        scope.spawn(move || {
            // As a worker does: turn after turn, for a while.
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(1));
                reader.quiescent();
            }
        });
        domain.synchronize(Duration::from_secs(10)).unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_stalled_reader_is_found_by_name_and_time() {
    let domain = Domain::new(4);
    let mut busy = online(&domain, "busy");
    let mut stuck = online(&domain, "stuck");
    let _asleep = domain.register("asleep").unwrap();
    // Nothing is retired: looking is enough. The first look cannot know yet.
    assert_eq!(domain.stalled(Duration::ZERO), []);
    thread::sleep(Duration::from_millis(10));
    busy.quiescent();
    let found = domain.stalled(Duration::from_millis(8));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].name, "stuck");
    assert!(found[0].since >= Duration::from_millis(10));
    // Its time goes on over further retirements and looks, and ends with its report.
    domain.retire(Box::new(()));
    thread::sleep(Duration::from_millis(5));
    busy.quiescent();
    assert!(domain.stalled(Duration::from_millis(14))[0].since >= Duration::from_millis(15));
    stuck.quiescent();
    busy.quiescent();
    assert_eq!(domain.stalled(Duration::ZERO), []);
}

#[test]
#[should_panic(expected = "a reader must be online")]
fn loading_offline_is_refused() {
    let domain = Domain::new(1);
    let published = Published::new(&domain, 1);
    published.load(&domain.register("test").unwrap());
}

#[test]
#[should_panic(expected = "of the domain of what it reads")]
fn loading_with_another_domains_reader_is_refused() {
    let (one, other) = (Domain::new(1), Domain::new(1));
    let (_writer, fdb) = Fdb::new(&one, FdbConfig::default());
    fdb.lookup(&online(&other, "test"), FdbKey::new(1, 1));
}

#[test]
fn slots_are_set_replaced_and_cleared() {
    let domain = Domain::new(1);
    let (drops, item) = counted();
    let slots = SlotTable::new(&domain, 2);
    let mut reader = online(&domain, "test");
    slots.set(1, Some(*item()));
    assert!(slots.get(0, &reader).is_none() && slots.get(2, &reader).is_none());
    let held = slots.get(1, &reader).unwrap();
    slots.set(1, None);
    // Still alive, though it is gone from the table.
    assert_eq!(held.0.load(Ordering::Relaxed), 0);
    assert!(slots.view(&reader).get(1).is_none());
    reader.quiescent();
    domain.collect();
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    slots.set(0, Some(*item()));
    slots.with(0, |slot| assert!(slot.is_some()));
    slots.with(7, |slot| assert!(slot.is_none()));
    drop(slots);
    reader.quiescent();
    domain.collect();
    assert_eq!(drops.load(Ordering::Relaxed), 2);
}

#[test]
fn errors_say_what_to_do() {
    let error = OutOfMemory::Backlog { waiting: 7, limit: 5 };
    assert!(error.to_string().contains("stalled worker"));
}
