//! The layout that Rust uses (libclang, bindgen) against the one that the C compiler made.

use core::mem::{offset_of, size_of};

use dpdk_sys::*;

#[test]
fn rust_and_c_agree() {
    let rust = [
        ("rte_mbuf.buf_addr", WEFT_MBUF_BUF_ADDR as usize),
        ("rte_mbuf.next", WEFT_MBUF_NEXT as usize),
        ("rte_mbuf.data_off", WEFT_MBUF_DATA_OFF as usize),
        ("rte_mbuf.refcnt", WEFT_MBUF_REFCNT as usize),
        ("rte_mbuf.nb_segs", WEFT_MBUF_NB_SEGS as usize),
        ("rte_mbuf.port", WEFT_MBUF_PORT as usize),
        ("rte_mbuf.ol_flags", WEFT_MBUF_OL_FLAGS as usize),
        ("rte_mbuf.packet_type", WEFT_MBUF_PACKET_TYPE as usize),
        ("rte_mbuf.pkt_len", WEFT_MBUF_PKT_LEN as usize),
        ("rte_mbuf.data_len", WEFT_MBUF_DATA_LEN as usize),
        ("rte_mbuf.vlan_tci", WEFT_MBUF_VLAN_TCI as usize),
        ("rte_mbuf.buf_len", WEFT_MBUF_BUF_LEN as usize),
        ("rte_mbuf.pool", WEFT_MBUF_POOL as usize),
        ("rte_mbuf.tx_offload", WEFT_MBUF_TX_OFFLOAD as usize),
        ("sizeof rte_mbuf", size_of::<rte_mbuf>()),
        ("sizeof rte_eth_conf", size_of::<rte_eth_conf>()),
        ("rte_eth_conf.rxmode.mtu", offset_of!(rte_eth_conf, rxmode.mtu)),
        ("rte_eth_conf.rxmode.offloads", offset_of!(rte_eth_conf, rxmode.offloads)),
        ("rte_eth_conf.txmode.offloads", offset_of!(rte_eth_conf, txmode.offloads)),
        ("rte_eth_conf...rss_hf", offset_of!(rte_eth_conf, rx_adv_conf.rss_conf.rss_hf)),
        ("sizeof rte_eth_dev_info", size_of::<rte_eth_dev_info>()),
        ("rte_eth_dev_info.max_rx_queues", offset_of!(rte_eth_dev_info, max_rx_queues)),
        ("rte_eth_dev_info.rx_offload_capa", offset_of!(rte_eth_dev_info, rx_offload_capa)),
        ("rte_eth_dev_info.default_txconf", offset_of!(rte_eth_dev_info, default_txconf)),
        ("sizeof rte_eth_stats", size_of::<rte_eth_stats>()),
        ("rte_eth_stats.rx_nombuf", offset_of!(rte_eth_stats, rx_nombuf)),
        ("sizeof rte_vhost_device_ops", size_of::<rte_vhost_device_ops>()),
        ("rte_vhost_device_ops.vring_state_changed", offset_of!(rte_vhost_device_ops, vring_state_changed)),
        ("sizeof rte_vhost_vring", size_of::<rte_vhost_vring>()),
    ];
    let mut c = [0u32; 64];
    // SAFETY: the array has as many places as the call is told.
    let n = unsafe { weft_layout(c.as_mut_ptr(), c.len() as u32) } as usize;
    assert_eq!(n, rust.len(), "the shim lists other fields than this test");
    for ((name, rust), c) in rust.iter().zip(c) {
        assert_eq!(*rust, c as usize, "{name}: Rust (left) and C (right) differ");
    }
    assert_eq!(WEFT_MBUF_SIZE as usize, size_of::<rte_mbuf>());
    assert_eq!(align_of::<rte_mbuf>(), 64, "an mbuf is cache line aligned");
}

#[test]
fn mbuf_accessors_touch_their_own_field_only() {
    let mut store: Box<rte_mbuf> = Box::default();
    let m: *mut rte_mbuf = &mut *store;
    // SAFETY: `m` points to a zeroed mbuf of this test's own.
    unsafe {
        mbuf::set_data_off(m, 128);
        mbuf::set_nb_segs(m, 1);
        mbuf::set_ol_flags(m, u64::MAX);
        mbuf::set_pkt_len(m, 0x1234_5678);
        mbuf::set_data_len(m, 0xabcd);
        mbuf::set_vlan_tci(m, 100);
        mbuf::refcnt(m).store(1, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(mbuf::data_off(m), 128);
        assert_eq!(mbuf::nb_segs(m), 1);
        assert_eq!(mbuf::ol_flags(m), u64::MAX);
        assert_eq!(mbuf::pkt_len(m), 0x1234_5678);
        assert_eq!(mbuf::data_len(m), 0xabcd);
        assert_eq!(mbuf::vlan_tci(m), 100);
        assert_eq!(mbuf::packet_type(m), 0);
        assert_eq!(mbuf::tx_offload(m), 0);
        assert_eq!(mbuf::buf_len(m), 0);
        assert!(mbuf::next(m).is_null() && mbuf::pool(m).is_null() && mbuf::buf_addr(m).is_null());
    }
}

#[test]
fn the_version_is_a_supported_one() {
    let mut parts = DPDK_VERSION.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    assert!(version >= (22, 11), "{DPDK_VERSION}");
}
