//! Finds DPDK by pkg-config, compiles the C shim and runs bindgen, all three with the same C flags.
//!
//! pkg-config is called directly: the `pkg-config` crate keeps `-I` and `-l` only, but DPDK's flags also hold
//! `-include rte_config.h` and `-march=...`, and headers parsed without them give other structure layouts.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Oldest release whose API the shim and the bindings use.
const MIN_VERSION: (u32, u32) = (22, 11);

/// Functions with a symbol to link. Static inlines are reached through the shim instead.
const FUNCTIONS: &[&str] = &[
    "weft_.*",
    "rte_eal_init",
    "rte_eal_alarm_set",
    "rte_eal_get_runtime_dir",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_get_tsc_hz",
    "rte_pktmbuf_pool_create",
    "rte_pktmbuf_copy",
    "rte_pktmbuf_clone",
    "rte_pktmbuf_free_bulk",
    "rte_mempool_free",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_configure",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_rx_queue_setup",
    "rte_eth_tx_queue_setup",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_dev_close",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_promiscuous_enable",
    "rte_eth_macaddr_get",
    "rte_eth_dev_default_mac_addr_set",
    "rte_eth_stats_get",
    "rte_vhost_driver_register",
    "rte_vhost_driver_unregister",
    "rte_vhost_driver_callback_register",
    "rte_vhost_driver_start",
    "rte_vhost_driver_get_features",
    "rte_vhost_driver_disable_features",
    "rte_vhost_enqueue_burst",
    "rte_vhost_dequeue_burst",
    "rte_vhost_enable_guest_notification",
    "rte_vhost_get_ifname",
    "rte_vhost_get_mtu",
    "rte_vhost_get_negotiated_features",
    "rte_vhost_get_numa_node",
    "rte_vhost_get_vring_num",
    "rte_vhost_get_vhost_vring",
    "rte_vhost_get_mem_table",
    "rte_vhost_get_vring_base",
    "rte_vhost_set_vring_base",
    "rte_vhost_log_write",
    "rte_vhost_log_used_vring",
    "rte_vhost_extern_callback_register",
];

const TYPES: &[&str] = &[
    "weft_.*",
    "rte_eth_conf",
    "rte_eth_dev_info",
    "rte_eth_rxconf",
    "rte_eth_txconf",
    "rte_eth_stats",
    "rte_ether_addr",
    "rte_vhost_device_ops",
    "rte_vhost_vring",
    "rte_vhost_memory",
    "rte_vhost_mem_region",
    "rte_vhost_user_extern_ops",
];

/// What the `hash` feature adds, functions and types.
const HASH_FUNCTIONS: &[&str] = &[
    "rte_eal_tailq_lookup",
    "rte_hash_create",
    "rte_hash_free",
    "rte_hash_add_key_data",
    "rte_hash_del_key",
    "rte_hash_free_key_with_position",
    "rte_hash_lookup_bulk_data",
    "rte_hash_count",
];
const HASH_TYPES: &[&str] = &["rte_hash", "rte_hash_parameters"];

/// Known by size and alignment only. `rte_mbuf` is reached by the offsets in the shim's header, as newer releases
/// nest its fields differently; `rte_arp_*` is packed and aligned at once, which rustc refuses.
const OPAQUE: &[&str] = &[
    "rte_mbuf",
    "rte_mempool",
    "rte_device",
    "rte_eth_dev",
    "rte_arp.*",
    "rte_mbuf_ext_shared_info",
    "rte_tailq_head",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shim/shim.c");
    println!("cargo:rerun-if-changed=shim/shim.h");
    for name in [
        "PKG_CONFIG",
        "PKG_CONFIG_PATH",
        "PKG_CONFIG_LIBDIR",
        "PKG_CONFIG_SYSROOT_DIR",
        "LIBCLANG_PATH",
        "CC",
    ] {
        println!("cargo:rerun-if-env-changed={name}");
    }

    let version = pkg_config("--modversion");
    check_version(version.trim());
    let cflags = split_flags(&pkg_config("--cflags"));
    link(&split_flags(&pkg_config("--libs")));

    let out = PathBuf::from(
        env::var_os("OUT_DIR").unwrap_or_else(|| fail("OUT_DIR is not set: run this by cargo")),
    );
    compile_shim(&cflags);
    generate_bindings(&cflags, &out.join("bindings.rs"));
}

/// Stops the build with a message for people instead of a panic's backtrace.
fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo:warning={line}");
    }
    eprintln!("error: {message}");
    exit(1)
}

fn pkg_config(what: &str) -> String {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = match Command::new(&program).args([what, "libdpdk"]).output() {
        Ok(output) => output,
        Err(e) => {
            fail(&format!("cannot run `{program}`: {e}\ninstall it: apt install pkg-config libdpdk-dev"))
        }
    };
    if !output.status.success() {
        fail(&format!(
            "DPDK's development files were not found: `{program} {what} libdpdk` says\n{}\n\
             install them: apt install libdpdk-dev\n\
             or, for a DPDK built from source, set PKG_CONFIG_PATH to the folder that holds libdpdk.pc",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    String::from_utf8(output.stdout).unwrap_or_else(|_| fail("pkg-config's answer is not UTF-8"))
}

fn check_version(version: &str) {
    let mut parts = version.split(['.', '-', '~']).map(|p| p.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < MIN_VERSION {
        fail(&format!(
            "DPDK {version} is too old, {}.{:02} or newer is needed\n\
             install it: apt install libdpdk-dev (Debian 12, Ubuntu 23.04 or newer)",
            MIN_VERSION.0, MIN_VERSION.1
        ));
    }
    println!("cargo:rustc-env=DPDK_VERSION={version}");
    println!("cargo:version={version}");
}

/// Splits as a shell would: pkg-config escapes special characters with a backslash.
fn split_flags(text: &str) -> Vec<String> {
    let mut flags = Vec::new();
    let mut current = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => current.extend(chars.next()),
            c if c.is_whitespace() => {
                if !current.is_empty() {
                    flags.push(std::mem::take(&mut current));
                }
            }
            c => current.push(c),
        }
    }
    if !current.is_empty() {
        flags.push(current);
    }
    flags
}

/// Shared libraries only: a static link would drop the drivers' constructors. rustc links with `--as-needed`, so
/// that the binary in the end depends only on the libraries whose symbols it uses.
fn link(libs: &[String]) {
    for flag in libs {
        if let Some(dir) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={dir}");
        } else if let Some(name) = flag.strip_prefix("-l") {
            println!("cargo:rustc-link-lib=dylib={name}");
        }
    }
}

fn compile_shim(cflags: &[String]) {
    let mut build = cc::Build::new();
    build.file("shim/shim.c").include("shim").opt_level(3).warnings(true).flag("-std=gnu11");
    for flag in cflags {
        build.flag(flag);
    }
    if let Err(e) = build.try_compile("weft_dpdk_shim") {
        fail(&format!(
            "the C shim does not compile: {e}\na C compiler is needed: apt install gcc libdpdk-dev"
        ));
    }
}

fn generate_bindings(cflags: &[String], to: &Path) {
    if let Err(e) = clang_sys::load() {
        fail(&format!(
            "bindgen needs libclang: {e}\ninstall it: apt install clang libclang-dev\n\
             or set LIBCLANG_PATH to the folder that holds libclang.so"
        ));
    }
    let mut builder = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_args(cflags)
        .use_core()
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .blocklist_type("rte_mbuf__bindgen_ty.*")
        .blocklist_type("rte_mbuf_sched")
        .derive_default(true)
        .layout_tests(true)
        .generate_comments(false)
        .merge_extern_blocks(true)
        .sort_semantically(true)
        .allowlist_var("WEFT_.*")
        .allowlist_var("RTE_(PKTMBUF_HEADROOM|MBUF_DEFAULT_BUF_SIZE|EAL_PMD_PATH|MAX_ETHPORTS|ETHER_MTU)");
    let hash = env::var_os("CARGO_FEATURE_HASH").is_some();
    if hash {
        builder = builder
            .header_contents("weft_hash.h", "#include <rte_hash.h>\n#include <rte_tailq.h>\n")
            .allowlist_var("RTE_HASH_(LOOKUP_BULK_MAX|EXTRA_FLAGS_RW_CONCURRENCY_LF)");
    }
    let with_hash =
        |all: &'static [&str], more: &'static [&str]| all.iter().chain(if hash { more } else { &[] });
    for name in with_hash(FUNCTIONS, HASH_FUNCTIONS) {
        builder = builder.allowlist_function(name);
    }
    for name in with_hash(TYPES, HASH_TYPES) {
        builder = builder.allowlist_type(name);
    }
    for name in OPAQUE {
        builder = builder.opaque_type(name);
    }
    let bindings = match builder.generate() {
        Ok(bindings) => bindings,
        Err(e) => fail(&format!(
            "bindgen cannot read DPDK's headers: {e}\nclang's own headers may be missing: apt install clang libclang-dev"
        )),
    };
    if let Err(e) = bindings.write_to_file(to) {
        fail(&format!("cannot write {}: {e}", to.display()));
    }
}
