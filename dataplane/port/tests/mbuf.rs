//! Mbufs and pools: every operation at its limits, and no mbuf lost on the way.

mod common;

use arrayvec::ArrayVec;
use common::{bytes, frame};
use dpdk_sys as sys;
use weft_port::{BURST, Burst, DEFAULT_DATA_ROOM, HEADROOM, Leaving, Mbuf, Mempool, PortError, free_burst};

/// A part of the test, with its name.
type Step = (&'static str, fn(&Mempool));

#[test]
fn mbufs_and_pools() {
    let eal = common::eal("mbuf");
    let pool = common::pool(&eal, "mbufs", 511);
    let steps: &[Step] = &[
        ("fresh", fresh),
        ("front", front),
        ("back", back),
        ("chains", chains),
        ("cutting a chain", cutting),
        ("linearize", linearize),
        ("copies", copies),
        ("shared buffers", shared),
        ("flags", flags),
        ("bursts", bursts),
        ("leaving a burst", leaving),
        ("room in front", room_in_front),
        ("exhaustion", exhaustion),
        ("other threads", threads),
    ];
    for (name, step) in steps {
        println!("{name}");
        step(&pool);
        assert_eq!((pool.in_use(), pool.available()), (0, 511), "mbufs leaked in step '{name}'");
    }

    for (what, count, cache, room, name) in [
        ("cache", 64, 64, DEFAULT_DATA_ROOM, "x"),
        ("exists", 64, 0, DEFAULT_DATA_ROOM, "mbufs"),
        ("headroom", 64, 0, HEADROOM, "x"),
        ("hugepages", 1 << 20, 0, DEFAULT_DATA_ROOM, "x"),
        ("shorter", 64, 0, DEFAULT_DATA_ROOM, "a-name-that-is-much-too-long-for-dpdk"),
    ] {
        let error = Mempool::new(&eal, name, count, cache, room, -1).expect_err(what).to_string();
        assert!(error.contains(what) && error.contains(name), "{what}: {error}");
    }
    assert!(matches!(Mempool::new(&eal, "a\0b", 64, 0, 2176, -1), Err(PortError::Invalid { .. })));

    // A pool whose mbufs are home gives its name back; one with an mbuf in flight stays for that one's sake.
    let short = common::pool(&eal, "short", 63);
    let clone = short.clone();
    drop(short);
    let flying = clone.alloc_copy(b"flying").expect("mbuf");
    drop(clone);
    assert_eq!(bytes(&flying), b"flying");
    Mempool::new(&eal, "short", 63, 0, DEFAULT_DATA_ROOM, -1).expect_err("the pool must have stayed");
    drop(flying);
    for _ in 0..3 {
        drop(common::pool(&eal, "brief", 63));
    }
}

fn fresh(pool: &Mempool) {
    let mut m = pool.alloc().expect("mbuf");
    assert_eq!((m.pkt_len(), m.data_len(), m.nb_segs()), (0, 0, 1));
    assert_eq!((m.headroom(), m.tailroom()), (HEADROOM, 2048));
    assert!(m.data().is_empty() && m.data_mut().is_some_and(|d| d.is_empty()));
    assert_eq!(pool.in_use(), 1);
    assert_eq!(m.vlan_stripped(), None);
    m.prefetch();
    m.prefetch_at(0);
    m.prefetch_at(u16::MAX);
    m.prefetch_header();
    assert_eq!(format!("{m:?}"), "Mbuf(0 bytes in 1 segments)");
}

fn front(pool: &Mempool) {
    let mut m = pool.alloc_copy(b"inner").expect("mbuf");
    m.prepend(6).expect("room").copy_from_slice(b"outer ");
    assert_eq!(m.data(), b"outer inner");
    assert_eq!((m.pkt_len(), m.headroom()), (11, HEADROOM - 6));
    assert!(m.prepend(usize::from(HEADROOM) - 5).is_none(), "one byte too many");
    assert!(m.prepend(usize::MAX).is_none());
    assert!(m.prepend(65_536 + 1).is_none(), "must not wrap at 16 bits");
    assert_eq!(m.data(), b"outer inner", "a refusal changes nothing");
    let rest = usize::from(m.headroom());
    assert_eq!(m.prepend(rest).expect("the last byte").len(), rest);
    assert_eq!(m.headroom(), 0);
    assert!(m.prepend(1).is_none());
    assert!(m.prepend(0).is_some_and(|d| d.is_empty()));

    assert!(m.adj(rest));
    assert_eq!(m.data(), b"outer inner");
    assert!(!m.adj(12) && !m.adj(usize::MAX) && !m.adj(65_536));
    assert!(m.adj(6));
    assert_eq!(m.data(), b"inner");
    assert!(m.adj(5) && m.data().is_empty() && m.pkt_len() == 0);
    assert!(!m.adj(1));
}

fn back(pool: &Mempool) {
    let mut m = pool.alloc_copy(&frame(1, 100)).expect("mbuf");
    assert!(m.trim_to(100) && !m.trim_to(101));
    assert!(m.trim_to(60));
    assert_eq!(m.data(), &frame(1, 100)[..60]);
    assert!(m.append(b"tail"));
    assert_eq!(&m.data()[60..], b"tail");
    assert!(!m.append(&[0; 2048 - 63]), "one byte too many");
    assert!(m.append(&[7; 2048 - 64]));
    assert_eq!((m.pkt_len(), m.tailroom()), (2048, 0));
    assert!(m.trim_to(0) && m.data().is_empty());

    assert!(m.append(b"head"));
    let room = m.grow(60).expect("room");
    assert_eq!((room.len(), room[0]), (60, frame(1, 100)[4]), "what was there is there");
    room[59] = 0xaa;
    assert_eq!((m.data_len(), m.pkt_len(), m.data()[63]), (64, 64, 0xaa));
    assert!(m.grow(2048 - 63).is_none() && m.grow(usize::MAX).is_none(), "one byte too many");
    assert_eq!(m.pkt_len(), 64, "a refusal changes nothing");
    assert!(m.grow(0).is_some_and(|room| room.is_empty()));
}

fn chains(pool: &Mempool) {
    for len in [0, 1, 2047, 2048, 2049, 4096, 9000, 65_535] {
        let f = frame(7, len);
        let m = pool.alloc_copy(&f).expect("mbuf");
        assert_eq!(bytes(&m), f);
        assert_eq!(m.pkt_len() as usize, f.len());
        assert_eq!(usize::from(m.nb_segs()), f.len().div_ceil(2048).max(1));
        assert_eq!(m.segments().count(), usize::from(m.nb_segs()));
    }
    let mut m = pool.alloc_copy(&frame(1, 3000)).expect("mbuf");
    assert!(m.chain(pool.alloc_copy(&frame(2, 3000)).expect("mbuf")));
    assert_eq!((m.pkt_len(), m.nb_segs()), (6000, 4));
    assert_eq!(bytes(&m), [frame(1, 3000), frame(2, 3000)].concat());
    assert!(m.append(b"x"), "goes to the last segment");
    assert_eq!((bytes(&m).last(), m.pkt_len()), (Some(&b'x'), 6001));
    assert!(!m.adj(2049), "the first segment has 2048");
    assert!(m.adj(2048) && m.data().is_empty());
    assert_eq!(m.pkt_len(), 6001 - 2048);
}

fn cutting(pool: &Mempool) {
    let f = frame(3, 6000);
    for len in [0, 1, 2047, 2048, 2049, 4095, 4096, 4097, 5999, 6000] {
        let mut m = pool.alloc_copy(&f).expect("mbuf");
        assert!(m.trim_to(len), "{len}");
        assert_eq!(bytes(&m), &f[..len as usize]);
        assert_eq!(m.pkt_len(), len);
        assert_eq!(u32::from(m.nb_segs()), len.div_ceil(2048).max(1), "{len}");
        assert_eq!(m.segments().count(), usize::from(m.nb_segs()));
        assert_eq!(pool.in_use(), u32::from(m.nb_segs()), "what is cut off goes home at once");
    }
}

fn linearize(pool: &Mempool) {
    let mut m = pool.alloc_copy(&frame(1, 900)).expect("mbuf");
    assert!(m.linearize(), "nothing to do");
    for n in 2..=3 {
        assert!(m.chain(pool.alloc_copy(&frame(n, 500)).expect("mbuf")));
    }
    let whole = bytes(&m);
    assert!(m.linearize());
    assert_eq!((m.nb_segs(), m.data()), (1, &whole[..]));
    assert_eq!(pool.in_use(), 1);

    let mut m = pool.alloc_copy(&frame(1, 2049)).expect("mbuf");
    let whole = bytes(&m);
    assert!(!m.linearize(), "does not fit");
    assert_eq!((m.nb_segs(), bytes(&m)), (2, whole));
}

fn copies(pool: &Mempool) {
    for len in [60, 1514, 2048, 2049, 9000] {
        let mut original = pool.alloc_copy(&frame(9, len)).expect("mbuf");
        let copy = original.duplicate().expect("copy");
        original.data_mut().expect("mine").fill(0);
        assert_eq!(bytes(&copy), frame(9, len), "a deep copy");
        assert_eq!(copy.headroom(), HEADROOM, "with fresh headroom");
    }
    // Two short segments become one.
    let mut chained = pool.alloc_copy(&frame(1, 70)).expect("mbuf");
    assert!(chained.chain(pool.alloc_copy(&frame(2, 70)).expect("mbuf")));
    let copy = chained.duplicate().expect("copy");
    assert_eq!((copy.nb_segs(), bytes(&copy)), (1, bytes(&chained)));
}

/// An `Mbuf` is a pointer: this is how a driver would see it.
fn raw(m: &Mbuf) -> *mut sys::rte_mbuf {
    // SAFETY: both are one pointer (repr(transparent)); the copy is used while `m` lives only.
    unsafe { core::mem::transmute_copy::<Mbuf, *mut sys::rte_mbuf>(m) }
}

fn shared(pool: &Mempool) {
    let mut m = pool.alloc_copy(&frame(5, 200)).expect("mbuf");
    assert!(m.is_exclusive());
    // SAFETY: the clone is owned from here on: an mbuf of the pool that refers to the first one's buffer.
    let mut clone: Mbuf = unsafe {
        let copy = sys::rte_pktmbuf_clone(raw(&m), sys::mbuf::pool(raw(&m)));
        assert!(!copy.is_null());
        core::mem::transmute::<*mut sys::rte_mbuf, Mbuf>(copy)
    };
    for m in [&mut m, &mut clone] {
        assert!(!m.is_exclusive() && m.data_mut().is_none(), "shared bytes are read only");
        assert!(m.prepend(10).is_none() && !m.append(b"x"), "so is the room around them");
        assert_eq!(m.data(), frame(5, 200));
    }
    assert!(m.chain(pool.alloc_copy(b"more").expect("mbuf")));
    assert!(!m.linearize(), "would write behind the shared bytes");
    assert!(clone.adj(14) && clone.trim_to(50), "lengths are each one's own");
    assert_eq!((m.pkt_len(), m.data()), (204, &frame(5, 200)[..]));
    clone.clear_offload();
    assert!(!clone.is_exclusive(), "how a buffer is held survives");
    assert_eq!(clone.duplicate().expect("copy").data_mut().expect("a copy's bytes are its own").len(), 50);
    drop(clone);
    assert!(m.data_mut().is_some(), "the last holder may write again");
}

fn flags(pool: &Mempool) {
    let mut m = pool.alloc_copy(&frame(1, 60)).expect("mbuf");
    let seen = |m: &Mbuf| {
        [m.ip_checksum_good(), m.ip_checksum_bad(), m.udp_checksum_good(), m.l4_checksum_bad()].map(u8::from)
    };
    assert_eq!(seen(&m), [0, 0, 0, 0], "unknown is neither good nor bad");
    // RTE_MBUF_F_RX_*: by number, from DPDK's documentation, not by the names that the code under test uses.
    for (flag, want) in [
        (1 << 7, [1, 0, 0, 0]),
        (1 << 4, [0, 1, 0, 0]),
        (1 << 8, [0, 0, 1, 0]),
        (1 << 3, [0, 0, 0, 1]),
        // Both bits: no checksum in the packet, the data is sound. Neither good nor bad for us.
        (1 << 7 | 1 << 4 | 1 << 8 | 1 << 3, [0, 0, 0, 0]),
        (1 << 0 | 1 << 6, [0, 0, 0, 0]),
    ] {
        // SAFETY: `m` is owned here.
        unsafe {
            sys::mbuf::set_ol_flags(raw(&m), flag);
            sys::mbuf::set_vlan_tci(raw(&m), 0x2064);
        }
        assert_eq!(seen(&m), want, "{flag:#x}");
        assert_eq!(m.vlan_stripped(), (flag & 1 << 6 != 0).then_some(0x2064));
    }
    m.clear_offload();
    assert_eq!((seen(&m), m.vlan_stripped()), ([0; 4], None));
}

fn leaving(pool: &Mempool) {
    let make = |i: u32| pool.alloc_copy(&frame(i, 60)).expect("mbuf");
    let mut burst: Burst = (0..10).map(make).collect();
    let mut out: ArrayVec<Mbuf, 8> = [make(100), make(101)].into_iter().collect();
    let mut rest = Leaving::new(&mut burst);
    assert_eq!(rest.front(3).len(), 3);
    assert!(rest.front(2)[1].adj(1), "packets can be changed where they are");
    assert_eq!((rest.next().map(|m| bytes(&m)), rest.len()), (Some(frame(0, 60)), 9));
    assert_eq!(rest.free(1), 1);
    assert_eq!(
        (rest.move_to(4, &mut out), rest.move_to(4, &mut out)),
        (4, 2),
        "no more than there is room for"
    );
    assert_eq!(rest.front(100).len(), 2);
    let numbers = [100, 101, 2, 3, 4, 5, 6, 7].map(|i| frame(i, 60));
    assert!(out.iter().map(bytes).eq(numbers));
    assert_eq!(pool.in_use(), 10);
    drop(rest);
    assert!(burst.is_empty());
    assert_eq!(pool.in_use(), 8, "those left are freed");
    let mut rest = Leaving::new(&mut burst);
    assert!(rest.is_empty() && rest.next().is_none() && rest.free(1) + rest.move_to(1, &mut out) == 0);
    drop(rest);
    drop(out);
    assert_eq!(pool.in_use(), 0);
}

fn room_in_front(pool: &Mempool) {
    let mut m = pool.alloc_copy(&frame(1, 60)).expect("mbuf");
    let room = m.headroom();
    m.prepend_array::<50>().expect("room").fill(7);
    assert_eq!((m.headroom(), m.pkt_len(), m.data_len()), (room - 50, 110, 110));
    assert_eq!(m.data(), [vec![7; 50], frame(1, 60)].concat());
    assert!(m.prepend_array::<100>().is_none(), "more than is left");
    assert_eq!((m.headroom(), m.pkt_len()), (room - 50, 110), "nothing changed");
}

fn bursts(pool: &Mempool) {
    let mut burst: Burst = (0..BURST as u32).map(|i| pool.alloc_copy(&frame(i, 60)).expect("mbuf")).collect();
    assert!(burst.last_mut().expect("one").chain(pool.alloc_copy(&frame(0, 60)).expect("mbuf")));
    assert_eq!(pool.in_use() as usize, BURST + 1);
    free_burst(&mut burst);
    assert!(burst.is_empty());
    free_burst(&mut burst);

    assert!(pool.alloc_bulk(&mut burst, 0) && burst.is_empty());
    burst.extend(pool.alloc_copy(b"first"));
    assert!(pool.alloc_bulk(&mut burst, BURST));
    assert_eq!((burst.len(), pool.in_use() as usize), (BURST + 1, BURST + 1));
    assert_eq!(burst[0].data(), b"first", "what was there stays in front");
    for m in &burst[1..] {
        assert_eq!((m.pkt_len(), m.nb_segs(), m.headroom(), m.is_exclusive()), (0, 1, HEADROOM, true));
    }
    for (i, m) in burst.iter_mut().enumerate().skip(1) {
        assert!(m.append(&[i as u8]));
    }
    assert!(burst.iter().enumerate().skip(1).all(|(i, m)| m.data() == [i as u8]), "each is one of its own");
    assert!(!pool.alloc_bulk(&mut burst, BURST) && !pool.alloc_bulk(&mut burst, usize::MAX), "no room");
    assert_eq!(burst.len(), BURST + 1);
    let mut held: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    held.truncate(held.len() - 3);
    assert!(!pool.alloc_bulk(&mut burst, 4), "three are left");
    assert_eq!((burst.len(), pool.available()), (BURST + 1, 3), "a refusal keeps nothing");
    assert!(pool.alloc_bulk(&mut burst, 3));
}

fn exhaustion(pool: &Mempool) {
    let mut all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(all.len(), 511);
    assert!(pool.alloc().is_none() && pool.alloc_copy(b"x").is_none() && all[0].duplicate().is_none());
    all.truncate(509);
    assert!(pool.alloc_copy(&frame(1, 9000)).is_none(), "five needed, two there");
    assert_eq!(pool.available(), 2, "a failed allocation keeps nothing");
}

fn threads(pool: &Mempool) {
    let packets: Vec<Mbuf> = (0..100).map(|i| pool.alloc_copy(&frame(i, 60)).expect("mbuf")).collect();
    let pool = pool.clone();
    std::thread::spawn(move || {
        assert_eq!(pool.in_use(), 100);
        drop(packets);
        assert_eq!(pool.in_use(), 0);
    })
    .join()
    .expect("thread");
}
