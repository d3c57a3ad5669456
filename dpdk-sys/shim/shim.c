/* SPDX-License-Identifier: Apache-2.0 */
#include "shim.h"

#include <errno.h>

unsigned int
weft_layout(uint32_t *out, unsigned int capacity)
{
	static const uint32_t layout[] = {
		offsetof(struct rte_mbuf, buf_addr),
		offsetof(struct rte_mbuf, next),
		offsetof(struct rte_mbuf, data_off),
		offsetof(struct rte_mbuf, refcnt),
		offsetof(struct rte_mbuf, nb_segs),
		offsetof(struct rte_mbuf, port),
		offsetof(struct rte_mbuf, ol_flags),
		offsetof(struct rte_mbuf, packet_type),
		offsetof(struct rte_mbuf, pkt_len),
		offsetof(struct rte_mbuf, data_len),
		offsetof(struct rte_mbuf, vlan_tci),
		offsetof(struct rte_mbuf, buf_len),
		offsetof(struct rte_mbuf, pool),
		offsetof(struct rte_mbuf, tx_offload),
		sizeof(struct rte_mbuf),
		/* Structures that Rust fills or reads through bindgen's fields. */
		sizeof(struct rte_eth_conf),
		offsetof(struct rte_eth_conf, rxmode.mtu),
		offsetof(struct rte_eth_conf, rxmode.offloads),
		offsetof(struct rte_eth_conf, txmode.offloads),
		offsetof(struct rte_eth_conf, rx_adv_conf.rss_conf.rss_hf),
		sizeof(struct rte_eth_dev_info),
		offsetof(struct rte_eth_dev_info, max_rx_queues),
		offsetof(struct rte_eth_dev_info, rx_offload_capa),
		offsetof(struct rte_eth_dev_info, default_txconf),
		sizeof(struct rte_eth_stats),
		offsetof(struct rte_eth_stats, rx_nombuf),
		sizeof(struct rte_vhost_device_ops),
		offsetof(struct rte_vhost_device_ops, vring_state_changed),
		sizeof(struct rte_vhost_vring),
	};
	const unsigned int n = sizeof(layout) / sizeof(layout[0]);

	for (unsigned int i = 0; i < n && i < capacity; i++)
		out[i] = layout[i];
	return n;
}

uint16_t
weft_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, pkts, n);
}

uint16_t
weft_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, pkts, n);
}

struct rte_mbuf *
weft_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int
weft_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

void
weft_mbuf_free(struct rte_mbuf *m)
{
	rte_pktmbuf_free(m);
}

int
weft_mbuf_raw_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
	return rte_mempool_get_bulk(pool, (void **)mbufs, n);
}

void
weft_mbuf_free_burst(struct rte_mbuf **pkts, unsigned int n)
{
	struct rte_mempool *pool;

	if (n == 0)
		return;
	pool = pkts[0]->pool;
	for (unsigned int i = 0; i < n; i++) {
		const struct rte_mbuf *m = pkts[i];

		/* Of a packet in one segment `next` is NULL, so the mbuf's second line need not be read. */
		if (unlikely(m->pool != pool || m->nb_segs != 1 || rte_mbuf_refcnt_read(m) != 1 ||
			     !RTE_MBUF_DIRECT(m))) {
			rte_pktmbuf_free_bulk(pkts, n);
			return;
		}
	}
	rte_mempool_put_bulk(pool, (void *const *)pkts, n);
}

int
weft_mbuf_linearize(struct rte_mbuf *m)
{
	return rte_pktmbuf_linearize(m);
}

void
weft_mbuf_clear_offload_bulk(struct rte_mbuf **pkts, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];

		m->packet_type = 0;
		m->tx_offload = 0;
		do {
			m->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
			m = m->next;
		} while (unlikely(m != NULL));
	}
}

int
weft_rte_errno(void)
{
	return rte_errno;
}

uint64_t
weft_rdtsc(void)
{
	return rte_rdtsc();
}

uint32_t
weft_lcore_id(void)
{
	return rte_lcore_id();
}

int
weft_eth_link(uint16_t port, struct weft_link *out)
{
	struct rte_eth_link link;
	int ret;

	memset(&link, 0, sizeof(link));
	ret = rte_eth_link_get_nowait(port, &link);
	if (ret < 0)
		return ret;
	out->speed_mbps = link.link_speed;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return 0;
}

int
weft_vhost_set_max_queue_pairs(const char *path, uint32_t pairs)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
	return rte_vhost_driver_set_max_queue_num(path, pairs);
#else
	(void)path;
	(void)pairs;
	return -ENOTSUP;
#endif
}
