//! The entries against a map of names, under random changes of all kinds; and a table that runs out of memory anywhere.

mod world;

use proptest::prelude::*;

use super::{BULK, Plan, Undo};
use crate::api::{ErrorKind, FdbBatch, FdbOp, FdbRun};
use crate::model::{FdbEntry, FdbTarget, Objects, Owner};
use world::{BDS, NAMES, Wanted, Wish, World, mac, objects, target};

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Wish>),
    /// Another shape of the objects, with the file's entries and ports that are opened anew.
    Reload(u32, Vec<Wanted>, Vec<usize>),
    /// The API removes a port with its entries.
    RemovePort(usize),
    /// Memory for so many more entries.
    Room(usize),
    Enough,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || (0..BDS.len(), 0..200_u64);
    let to = || (any::<bool>(), 0..NAMES);
    let change = (key(), prop::option::weighted(0.7, to())).prop_map(|((bd, m), to)| (bd, m, to));
    let entry = (key(), to()).prop_map(|((bd, m), (port, n))| (bd, m, port, n));
    let sized = prop_oneof![3 => 1..4_usize, 2 => 5..40_usize, 1 => 100..300_usize];
    let step = prop_oneof![
        8 => sized.prop_flat_map(move |n| prop::collection::vec(change.clone(), n)).prop_map(Step::Apply),
        3 => (any::<u32>(), prop::collection::vec(entry, 0..60), prop::collection::vec(0..NAMES, 0..3))
            .prop_map(|(shape, file, anew)| Step::Reload(shape, file, anew)),
        2 => (0..NAMES).prop_map(Step::RemovePort),
        1 => (0..30_usize).prop_map(Step::Room),
        1 => Just(Step::Enough),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn entries_are_what_a_map_of_names_says(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Apply(changes) => world.apply(&changes),
                Step::Reload(shape, file, anew) => {
                    let shape = if shape & 1 == 0 { 0x0f00 | shape & 0xff } else { shape };
                    world.reload(objects(shape, Owner::File), &file, &anew);
                }
                Step::RemovePort(n) => {
                    let (name, to) = (format!("p{n}"), target(true, n));
                    let files = world.entries.leading_to(&to, &[Owner::File], &world.ids, 3);
                    let led = world.model.values().filter(|v| **v == (to.clone(), Owner::File)).count();
                    prop_assert_eq!(files.len(), led.min(3));
                    if led == 0 && world.objects.port(&name).is_some() {
                        let mut new = world.objects.clone();
                        new.ports.retain(|p| p.name != name);
                        prop_assert!(world.change(new, Plan::WithoutPort(&name), &[]));
                        world.model.retain(|_, (t, _)| *t != to);
                    }
                }
                Step::Room(room) => world.entries.table.room = room,
                Step::Enough => world.entries.table.room = usize::MAX,
            }
            world.compare();
        }
        prop_assert!(world.change(Objects::default(), Plan::Clear, &[]));
        prop_assert_eq!((world.entries.len(), world.entries.uses.len()), (0, 0));
    }
}

fn run(bd: &str, op: FdbOp, macs: impl IntoIterator<Item = u64>) -> FdbRun {
    FdbRun { bd: bd.into(), op, macs: macs.into_iter().map(mac).collect() }
}

fn vtep(name: &str) -> FdbTarget {
    FdbTarget::Vtep(name.into())
}

#[test]
fn a_batch_that_fails_anywhere_is_taken_back_whole() {
    for new in [30, 2 * BULK] {
        for room in 0..new {
            let mut world = World::new();
            let before: Vec<_> = (0..40).map(|m| (0, m, Some((false, 1)))).collect();
            world.apply(&before);
            world.entries.table.room = room;
            // 20 go, as many lead elsewhere, and `new` come.
            let mut changes: Vec<_> = (0..20).map(|m| (0, m, None)).collect();
            changes.extend((20..40 + new as u64).map(|m| (0, m, Some((false, 2)))));
            world.apply(&changes);
            assert_eq!(world.entries.len(), 40, "room for {room} of {new}");
            assert_eq!(world.entries.table.room, 0, "it failed in the middle");
            world.compare();
        }
    }
}

#[test]
fn each_mistake_has_its_entry_and_a_word_on_what_to_do() {
    let mut world = World::new();
    let (objects, ids) = (&world.objects, &world.ids);
    let file = [FdbEntry { bd: "red".into(), mac: mac(1), target: vtep("v1"), owner: Owner::File }];
    world.entries.change(Plan::File(&file), ids, &mut Undo::default()).unwrap();
    let set = |name: &str| FdbOp::Set(vtep(name));
    let cases = [
        (run("rde", set("v1"), [5, 6]), 3, ErrorKind::Invalid, "no bd \"rde\"", "did you mean \"red\"?"),
        (run("red", set("x9"), [5]), 3, ErrorKind::Invalid, "no vtep \"x9\"", ""),
        (run("red", set("v0"), [5]), 3, ErrorKind::Invalid, "does not take part in bd \"red\"", "add \"v0\""),
        (run("red", set("v1"), [5, 0x0100_0000_0000]), 4, ErrorKind::Invalid, "multicast", "unicast"),
        (
            run("red", set("v2"), [5, 1]),
            4,
            ErrorKind::Precondition,
            "belongs to the configuration file",
            "reload",
        ),
        (
            run("red", FdbOp::Discard, [1]),
            3,
            ErrorKind::Precondition,
            "belongs to the configuration file",
            "",
        ),
        (run("red", FdbOp::Remove, [77]), 3, ErrorKind::NotFound, "bd red has no entry for", ""),
        (run("red", FdbOp::Add(vtep("v1")), [9]), 3, ErrorKind::AlreadyExists, "already", ""),
        (run("red", FdbOp::Add(vtep("v1")), [8, 8]), 4, ErrorKind::Invalid, "has two entries", "remove one"),
        (run("nope", FdbOp::Discard, [1]), 3, ErrorKind::NotFound, "bd nope has no entry", "bd list"),
    ];
    let first = FdbBatch { runs: vec![run("red", set("v1"), [9])] };
    world.entries.apply(&first, objects, ids).unwrap();
    for (wrong, entry, kind, said, hint) in cases {
        let good = run("red", set("v2"), 100..103);
        let batch = FdbBatch { runs: vec![good, wrong] };
        let refusal = world.entries.apply(&batch, objects, ids).unwrap_err();
        assert_eq!((refusal.kind, refusal.mistakes.len()), (kind, 1), "{refusal:?}");
        assert_eq!(refusal.mistakes[0].entry, entry, "{refusal:?}");
        assert!(refusal.mistakes[0].message.contains(said), "{refusal:?}");
        assert!(refusal.hint.contains(hint), "{refusal:?}");
        assert_eq!(world.entries.len(), 2, "nothing of it was done");
    }
}

#[test]
fn of_many_mistakes_the_first_are_named_and_the_others_counted() {
    let mut world = World::new();
    let batch = FdbBatch { runs: vec![run("red", FdbOp::Remove, 0..1000)] };
    let refusal = world.entries.apply(&batch, &world.objects, &world.ids).unwrap_err();
    assert_eq!((refusal.mistakes.len(), refusal.more), (super::NAMED, 1000 - super::NAMED));
}

#[test]
fn entries_of_a_port_that_does_not_run_wait_for_it() {
    let mut world = World::new();
    world.apply(&[(0, 7, Some((true, 0)))]);
    world.compare();
    // It is closed and can't be opened; entries for it come and go all the same.
    let id = world.running.remove("p0").unwrap();
    world.follow();
    world.apply(&[(0, 8, Some((true, 0))), (0, 7, None)]);
    assert_eq!(world.entries.list(None, &world.ids).count(), 1);
    world.running.insert("p0".into(), world.ids.renew_port(id));
    world.follow();
    world.compare();
}
