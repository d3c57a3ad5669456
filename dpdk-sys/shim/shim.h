/* SPDX-License-Identifier: Apache-2.0
 *
 * What Rust needs of DPDK and cannot link: static inlines (as burst-level calls, so that one call serves up to a
 * whole burst of packets), constants made by function-like macros, and field offsets of struct rte_mbuf.
 *
 * This header is read twice, by the C compiler for shim.c and by libclang for bindgen.
 */
#ifndef WEFT_SHIM_H
#define WEFT_SHIM_H

/* rte_thread_register() is experimental in 22.11. */
#ifndef ALLOW_EXPERIMENTAL_API
#define ALLOW_EXPERIMENTAL_API
#endif

#include <stddef.h>
#include <stdint.h>

#include <rte_version.h>
#include <rte_alarm.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_vhost.h>

/* ---- struct rte_mbuf ---------------------------------------------------------------------------------------
 * Offsets, not bindgen fields: 24.03 and newer wrap the fields in anonymous unions, whose Rust names would differ
 * by release. Evaluated by libclang here, and once more by the C compiler in weft_layout() for the layout test.
 */
enum weft_mbuf_offset {
	WEFT_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	WEFT_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	WEFT_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	WEFT_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	WEFT_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	WEFT_MBUF_PORT = offsetof(struct rte_mbuf, port),
	WEFT_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	WEFT_MBUF_PACKET_TYPE = offsetof(struct rte_mbuf, packet_type),
	WEFT_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	WEFT_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	WEFT_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	WEFT_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	WEFT_MBUF_POOL = offsetof(struct rte_mbuf, pool),
	WEFT_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	WEFT_MBUF_SIZE = sizeof(struct rte_mbuf),
};

/* The same numbers as the C compiler sees them, in the order of the enum above. Returns how many there are and
 * fills at most `capacity`. */
unsigned int weft_layout(uint32_t *out, unsigned int capacity);

/* ---- constants ------------------------------------------------------------------------------------------- */

static const uint64_t WEFT_MBUF_F_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t WEFT_MBUF_F_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t WEFT_MBUF_F_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t WEFT_MBUF_F_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t WEFT_MBUF_F_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t WEFT_MBUF_F_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t WEFT_MBUF_F_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t WEFT_MBUF_F_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t WEFT_MBUF_F_EXTERNAL = RTE_MBUF_F_EXTERNAL;

static const uint64_t WEFT_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t WEFT_RX_OFFLOAD_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t WEFT_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t WEFT_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t WEFT_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t WEFT_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t WEFT_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t WEFT_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t WEFT_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint32_t WEFT_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t WEFT_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;

static const uint64_t WEFT_VHOST_USER_CLIENT = RTE_VHOST_USER_CLIENT;
static const uint64_t WEFT_VHOST_USER_NET_COMPLIANT_OL_FLAGS = RTE_VHOST_USER_NET_COMPLIANT_OL_FLAGS;

static const int WEFT_SOCKET_ID_ANY = SOCKET_ID_ANY;
static const unsigned int WEFT_MEMPOOL_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE;

/* ---- bursts ---------------------------------------------------------------------------------------------- */

uint16_t weft_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t weft_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n);

/* ---- mbufs ----------------------------------------------------------------------------------------------- */

struct rte_mbuf *weft_mbuf_alloc(struct rte_mempool *pool);
/* All or nothing: 0, or a negative errno. */
int weft_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
void weft_mbuf_free(struct rte_mbuf *m);
/* Buffers as the pool keeps them, without the reset that weft_mbuf_alloc_bulk() does: one segment, one reference, no next.
 * All or nothing: 0, or a negative errno. */
int weft_mbuf_raw_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
/* Frees packets of any kind; cheap when all are unshared, in one segment and of one pool. */
void weft_mbuf_free_burst(struct rte_mbuf **pkts, unsigned int n);
/* 0, or negative when the whole packet does not fit behind the first segment's data. */
int weft_mbuf_linearize(struct rte_mbuf *m);
/* Clears receive and transmit offload flags and lengths of every segment of each packet, keeping the flags that
 * say how the buffer is held. */
void weft_mbuf_clear_offload_bulk(struct rte_mbuf **pkts, unsigned int n);

/* ---- the rest -------------------------------------------------------------------------------------------- */

int weft_rte_errno(void);
uint64_t weft_rdtsc(void);
/* UINT32_MAX in a thread that EAL does not know. */
uint32_t weft_lcore_id(void);

/* struct rte_eth_link is a plain structure in 22.11 and a union around one in newer releases. */
struct weft_link {
	uint32_t speed_mbps; /* UINT32_MAX: unknown */
	uint8_t up;
	uint8_t full_duplex;
};
int weft_eth_link(uint16_t port, struct weft_link *out);

/* Tells the front-end how many queue pairs there are, where this release can (23.11 and newer): 0, or a negative
 * errno, -ENOTSUP on older ones. */
int weft_vhost_set_max_queue_pairs(const char *path, uint32_t pairs);

#endif
