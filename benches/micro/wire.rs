//! The wire crate's share of the packet path: one call per packet each.
#![deny(unsafe_code)]
#![allow(missing_docs, reason = "criterion_group! makes a public function without")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weft_benches::frames::{SWITCH, VNI, Wrap, build};
use weft_wire::{
    Dscp, Encap, InnerInfo, LocalVtep, MacAddr, RxChecks, Template, TemplateParams, Underlay, Vni,
    classify_underlay, flow_hash, inspect,
};

fn inner(c: &mut Criterion) {
    let mut group = c.benchmark_group("inner");
    group.throughput(Throughput::Elements(1));
    let ipv4 = build(Wrap::Plain, 7, 64);
    let mut tagged = ipv4.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    let mut arp = ipv4.clone();
    arp[12..14].copy_from_slice(&[8, 6]);
    for (name, frame) in [("udp", &ipv4), ("vlan-udp", &tagged), ("not-ip", &arp)] {
        group.bench_function(format!("inspect/{name}"), |b| b.iter(|| inspect(black_box(frame))));
    }
    group.bench_function("flow_hash/udp", |b| b.iter(|| flow_hash(black_box(&ipv4))));
}

fn underlay(c: &mut Criterion) {
    let mut group = c.benchmark_group("underlay");
    group.throughput(Throughput::Elements(1));
    let vtep =
        LocalVtep { ip: SWITCH.ip.into(), mac: MacAddr(SWITCH.mac), vxlan_port: 4789, geneve_port: 6081 };
    for encap in [Encap::Vxlan, Encap::Geneve] {
        let frame = build(Wrap::ToSwitch(encap), 7, 64);
        for (checked, known) in [("software-checksum", false), ("nic-checksum", true)] {
            let checks = RxChecks { ip_checksum_known_good: known, udp_checksum_known_good: known };
            group.bench_function(format!("classify/{encap}/{checked}"), |b| {
                b.iter(|| {
                    // What the packet path uses of it, so that the answer need not be stored whole.
                    match classify_underlay(black_box(&frame), frame.len(), black_box(&vtep), checks) {
                        Ok(Underlay::Tunnel(t)) => (
                            t.vni.get() ^ u32::from(t.src),
                            t.outer_len ^ u32::from(t.inner_offset),
                            t.need_udp_check,
                        ),
                        _ => (0, 0, true),
                    }
                })
            });
        }
    }
}

fn template(c: &mut Criterion) {
    let mut group = c.benchmark_group("template");
    group.throughput(Throughput::Elements(1));
    let vni = Vni::new(VNI).expect("24 bits");
    for encap in [Encap::Vxlan, Encap::Geneve] {
        let template = Template::new(&TemplateParams {
            encap,
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            src_ip: [192, 168, 50, 1].into(),
            dst_ip: [192, 168, 50, 2].into(),
            dst_port: encap.default_port(),
            ttl: 64,
            df: true,
            dscp: Dscp::Fixed(0),
        });
        let info = InnerInfo { tos: 0, vlan: false, hash: 0x1234_5678 };
        let mut out = [0u8; 64];
        group.bench_function(format!("write/{encap}"), |b| {
            b.iter(|| black_box(&template).write(black_box(&mut out), 64, vni, black_box(&info)))
        });
    }
}

criterion_group!(benches, inner, underlay, template);
criterion_main!(benches);
