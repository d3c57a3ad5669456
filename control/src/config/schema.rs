//! Every table and key of the file, with defaults, for suggestions and for the check that all are documented.

use crate::validate::ObjectKind;

/// One table of the file.
#[derive(Debug)]
pub struct TableSchema {
    /// Which.
    pub kind: ObjectKind,
    /// Written `[[name]]`, any number of times, rather than `[name]`.
    pub repeated: bool,
    /// A reload applies changes; otherwise they wait for a restart.
    pub reload: bool,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its default as the documentation shows it.
    pub default: Fallback,
}

/// What applies when a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// It may not be left out.
    Required,
    /// This value, in TOML.
    Value(&'static str),
    /// Something that is no value, in words.
    Words(&'static str),
}

use Fallback::{Required, Value, Words};

const fn key(name: &'static str, default: Fallback) -> Key {
    Key { name, default }
}

/// The whole file.
pub const SCHEMA: &[TableSchema] = &[
    TableSchema {
        kind: ObjectKind::Daemon,
        repeated: false,
        reload: false,
        keys: &[key("socket", Value("\"/run/weft/weftd.sock\"")), key("log", Value("\"info\""))],
    },
    TableSchema {
        kind: ObjectKind::Dpdk,
        repeated: false,
        reload: false,
        keys: &[
            key("memory_mb", Value("1024")),
            key("hugepages", Value("true")),
            key("file_prefix", Value("\"weft\"")),
            key("queue_mbufs", Value("0")),
            key("extra_args", Value("[]")),
        ],
    },
    TableSchema {
        kind: ObjectKind::Workers,
        repeated: false,
        reload: false,
        keys: &[
            key("cores", Words("all but the first")),
            key("idle", Value("\"backoff\"")),
            key("stage_timing", Value("false")),
        ],
    },
    TableSchema {
        kind: ObjectKind::Tunnel,
        repeated: false,
        reload: false,
        keys: &[
            key("vxlan_port", Value("4789")),
            key("geneve_port", Value("6081")),
            key("ttl", Value("64")),
            key("df", Value("true")),
            key("dscp", Value("0")),
        ],
    },
    TableSchema {
        kind: ObjectKind::Uplink,
        repeated: true,
        reload: false,
        keys: &[
            key("name", Required),
            key("device", Required),
            key("address", Required),
            key("gateway", Words("none")),
            key("mac", Words("the device's")),
            key("mtu", Value("1600")),
            key("rx_queues", Value("0")),
            key("tap", Value("\"\"")),
            key("exception_pps", Value("10000")),
        ],
    },
    TableSchema {
        kind: ObjectKind::Vtep,
        repeated: true,
        reload: true,
        keys: &[
            key("name", Required),
            key("address", Required),
            key("encap", Value("\"geneve\"")),
            key("port", Words("`[tunnel]`'s")),
        ],
    },
    TableSchema {
        kind: ObjectKind::Bd,
        repeated: true,
        reload: true,
        keys: &[
            key("name", Required),
            key("vni", Words("none")),
            key("vteps", Value("[]")),
            key("inner_vlan", Value("\"drop\"")),
        ],
    },
    TableSchema {
        kind: ObjectKind::Port,
        repeated: true,
        reload: true,
        keys: &[
            key("name", Required),
            key("bd", Required),
            key("type", Required),
            key("queues", Value("1")),
            key("socket", Required),
            key("mode", Value("\"server\"")),
            key("packed", Value("false")),
            key("device", Required),
            key("mtu", Value("1500")),
        ],
    },
    TableSchema {
        kind: ObjectKind::Fdb,
        repeated: true,
        reload: true,
        keys: &[
            key("bd", Required),
            key("mac", Required),
            key("port", Words("one of `port` and `vtep`")),
            key("vtep", Words("one of `port` and `vtep`")),
        ],
    },
];

/// The schema of one table.
pub fn table(kind: ObjectKind) -> &'static TableSchema {
    SCHEMA.iter().find(|table| table.kind == kind).unwrap_or(&SCHEMA[0])
}

/// The table that has `key`, if exactly one has: where a misplaced key probably belongs.
pub(crate) fn home_of(key: &str) -> Option<&'static TableSchema> {
    let mut homes = SCHEMA.iter().filter(|table| table.keys.iter().any(|k| k.name == key));
    homes.next().filter(|_| homes.next().is_none())
}
