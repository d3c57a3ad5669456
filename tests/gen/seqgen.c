/* A generator and checker of numbered packets, for tests that must not lose one.
 *
 * Every flow sends UDP packets with a running number from one DPDK port at a set rate and expects them, in order and
 * complete, on another (or the same). A packet that the device does not take is not counted as sent and its number is
 * used again, so sent - received is what the system under test lost.
 *
 *   seqgen EAL-ARGS -- tx=0,rx=1,src=MAC,dst=MAC,sip=IP,dip=IP,pps=N,size=N ...
 *
 * pps=0 sends as fast as it can. Commands on stdin, one JSON line as answer to each:
 *   start [FLOW] | stop [FLOW] | rate FLOW PPS | stats | quit
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_udp.h>

#define MAX_FLOWS 64
#define BURST 32
#define MIN_SIZE 60
#define MAX_SIZE 2000
#define UDP_PORT 7777

static const char MAGIC[4] = {'W', 'E', 'F', 'T'};

struct payload {
	char magic[4];
	uint32_t flow;
	uint64_t number;
} __rte_packed;

/* Written by the forwarding thread and read by the command thread, except running and pps: the other way round. */
struct flow {
	uint16_t tx, rx, size;
	struct rte_ether_addr src, dst;
	uint32_t sip, dip; /* network byte order */
	uint8_t template[MIN_SIZE];
	atomic_bool running;
	atomic_uint_fast64_t pps;
	atomic_uint_fast64_t sent, received, misordered, refused, gap_tsc;
	uint64_t epoch, epoch_sent, next, last_tsc;
	bool was_running;
};

static struct flow flows[MAX_FLOWS];
static unsigned n_flows;
static atomic_uint_fast64_t others[RTE_MAX_ETHPORTS], misdelivered[RTE_MAX_ETHPORTS];
static uint16_t ports[RTE_MAX_ETHPORTS];
static unsigned n_ports;
static struct rte_mempool *pool;
static atomic_bool quit;
static atomic_uint_fast64_t stall_tsc; /* longest time the forwarding loop was away since the last start */

#define ADD(counter, n) \
	atomic_store_explicit(&(counter), atomic_load_explicit(&(counter), memory_order_relaxed) + (n), memory_order_relaxed)
#define GET(counter) atomic_load_explicit(&(counter), memory_order_relaxed)

static void make_template(struct flow *f, uint32_t index)
{
	struct rte_ether_hdr *eth = (void *)f->template;
	struct rte_ipv4_hdr *ip = (void *)(eth + 1);
	struct rte_udp_hdr *udp = (void *)(ip + 1);
	struct payload *payload = (void *)(udp + 1);

	eth->dst_addr = f->dst;
	eth->src_addr = f->src;
	eth->ether_type = htons(RTE_ETHER_TYPE_IPV4);
	ip->version_ihl = 0x45;
	ip->total_length = htons(f->size - sizeof(*eth));
	ip->time_to_live = 64;
	ip->next_proto_id = IPPROTO_UDP;
	ip->src_addr = f->sip;
	ip->dst_addr = f->dip;
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	udp->src_port = htons(10000 + index);
	udp->dst_port = htons(UDP_PORT);
	udp->dgram_len = htons(f->size - sizeof(*eth) - sizeof(*ip));
	memcpy(payload->magic, MAGIC, sizeof(MAGIC));
	payload->flow = index;
}

#define PAYLOAD_AT (sizeof(struct rte_ether_hdr) + sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_udp_hdr))

static unsigned due(struct flow *f, uint64_t now)
{
	bool running = GET(f->running);
	uint64_t pps = GET(f->pps), sent = GET(f->sent), want;

	if (!running) {
		f->was_running = false;
		return 0;
	}
	if (!f->was_running) {
		f->was_running = true;
		f->epoch = now;
		f->epoch_sent = sent;
		f->last_tsc = 0;
	}
	if (pps == 0)
		return BURST;
	want = (uint64_t)((double)(now - f->epoch) * (double)pps / (double)rte_get_tsc_hz());
	sent -= f->epoch_sent;
	if (want <= sent)
		return 0;
	if (want - sent > 4 * BURST) { /* held up: go on at the rate, do not make up for it in a lump */
		f->epoch = now;
		f->epoch_sent += sent;
		return BURST;
	}
	return RTE_MIN(want - sent, (uint64_t)BURST);
}

static void send_flow(struct flow *f, unsigned count)
{
	struct rte_mbuf *burst[BURST];
	uint64_t number = GET(f->sent);
	unsigned i, taken;

	if (count == 0 || rte_pktmbuf_alloc_bulk(pool, burst, count))
		return;
	for (i = 0; i < count; i++) {
		char *data = rte_pktmbuf_append(burst[i], f->size);

		memcpy(data, f->template, MIN_SIZE);
		((struct payload *)(data + PAYLOAD_AT))->number = number + i;
	}
	taken = rte_eth_tx_burst(f->tx, 0, burst, count);
	ADD(f->sent, taken);
	ADD(f->refused, count - taken);
	if (taken < count)
		rte_pktmbuf_free_bulk(burst + taken, count - taken);
}

static void check(uint16_t port, struct rte_mbuf *m, uint64_t now)
{
	const struct payload *payload = rte_pktmbuf_mtod_offset(m, const struct payload *, PAYLOAD_AT);
	struct flow *f;

	if (m->data_len < MIN_SIZE - 2 || memcmp(payload->magic, MAGIC, sizeof(MAGIC)) || payload->flow >= n_flows) {
		ADD(others[port], 1);
		return;
	}
	f = &flows[payload->flow];
	if (f->rx != port) {
		ADD(misdelivered[port], 1);
		return;
	}
	ADD(f->received, 1);
	if (payload->number < f->next)
		ADD(f->misordered, 1);
	else
		f->next = payload->number + 1;
	if (f->last_tsc && now - f->last_tsc > GET(f->gap_tsc))
		atomic_store_explicit(&f->gap_tsc, now - f->last_tsc, memory_order_relaxed);
	f->last_tsc = now;
}

static int forward(void *unused)
{
	uint64_t last = rte_rdtsc();

	(void)unused;
	while (!GET(quit)) {
		uint64_t began = rte_rdtsc();
		unsigned i, j, n;

		if (began - last > GET(stall_tsc))
			atomic_store_explicit(&stall_tsc, began - last, memory_order_relaxed);
		last = began;
		for (i = 0; i < n_flows; i++)
			send_flow(&flows[i], due(&flows[i], rte_rdtsc()));
		for (i = 0; i < n_ports; i++) {
			struct rte_mbuf *burst[2 * BURST];
			uint64_t now;

			n = rte_eth_rx_burst(ports[i], 0, burst, 2 * BURST);
			now = rte_rdtsc();
			for (j = 0; j < n; j++)
				check(ports[i], burst[j], now);
			if (n)
				rte_pktmbuf_free_bulk(burst, n);
		}
	}
	return 0;
}

static void print_stats(void)
{
	unsigned i;

	printf("{\"flows\":[");
	for (i = 0; i < n_flows; i++) {
		struct flow *f = &flows[i];
		/* received first: a packet under way must not look like one received but never sent */
		uint64_t received = GET(f->received);

		printf("%s{\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"misordered\":%" PRIu64 ",\"refused\":%" PRIu64
		       ",\"longest_gap_ms\":%.3f}",
		       i ? "," : "", (uint64_t)GET(f->sent), received, (uint64_t)GET(f->misordered), (uint64_t)GET(f->refused),
		       (double)GET(f->gap_tsc) * 1000.0 / (double)rte_get_tsc_hz());
	}
	printf("],\"ports\":[");
	for (i = 0; i < n_ports; i++) {
		struct rte_eth_link link = {0};

		rte_eth_link_get_nowait(ports[i], &link);
		printf("%s{\"others\":%" PRIu64 ",\"misdelivered\":%" PRIu64 ",\"link\":%s}", i ? "," : "",
		       (uint64_t)GET(others[ports[i]]), (uint64_t)GET(misdelivered[ports[i]]), link.link_status ? "true" : "false");
	}
	printf("],\"stall_ms\":%.3f,\"now_ms\":%.3f}\n", (double)GET(stall_tsc) * 1000.0 / (double)rte_get_tsc_hz(),
	       (double)rte_rdtsc() * 1000.0 / (double)rte_get_tsc_hz());
	fflush(stdout);
}

static void set_running(const char *which, bool running)
{
	unsigned i, only = which ? (unsigned)atoi(which) : MAX_FLOWS;

	for (i = 0; i < n_flows; i++) {
		if (which && i != only)
			continue;
		if (running)
			atomic_store(&flows[i].gap_tsc, 0);
		atomic_store(&flows[i].running, running);
	}
}

static void commands(void)
{
	char line[128];

	while (fgets(line, sizeof(line), stdin)) {
		char *save = NULL, *verb = strtok_r(line, " \n", &save), *a = strtok_r(NULL, " \n", &save),
		     *b = strtok_r(NULL, " \n", &save);

		if (!verb)
			continue;
		if (!strcmp(verb, "quit"))
			break;
		if (!strcmp(verb, "start")) {
			atomic_store(&stall_tsc, 0);
			set_running(a, true);
		}
		if (!strcmp(verb, "stop"))
			set_running(a, false);
		if (!strcmp(verb, "rate") && a && b && (unsigned)atoi(a) < n_flows) {
			struct flow *f = &flows[atoi(a)];

			atomic_store(&f->pps, strtoull(b, NULL, 10));
			f->was_running = false;
		}
		print_stats();
	}
}

static bool parse_flow(char *text, struct flow *f)
{
	char *save = NULL, *word;
	bool ok = true;

	f->size = MIN_SIZE;
	for (word = strtok_r(text, ",", &save); word && ok; word = strtok_r(NULL, ",", &save)) {
		char *value = strchr(word, '=');

		if (!value)
			return false;
		*value++ = '\0';
		if (!strcmp(word, "tx"))
			f->tx = atoi(value);
		else if (!strcmp(word, "rx"))
			f->rx = atoi(value);
		else if (!strcmp(word, "src"))
			ok = rte_ether_unformat_addr(value, &f->src) == 0;
		else if (!strcmp(word, "dst"))
			ok = rte_ether_unformat_addr(value, &f->dst) == 0;
		else if (!strcmp(word, "sip"))
			ok = inet_pton(AF_INET, value, &f->sip) == 1;
		else if (!strcmp(word, "dip"))
			ok = inet_pton(AF_INET, value, &f->dip) == 1;
		else if (!strcmp(word, "pps"))
			f->pps = strtoull(value, NULL, 10);
		else if (!strcmp(word, "size"))
			f->size = atoi(value);
		else
			ok = false;
	}
	return ok && f->size >= MIN_SIZE && f->size <= MAX_SIZE && rte_eth_dev_is_valid_port(f->tx) &&
	       rte_eth_dev_is_valid_port(f->rx);
}

static bool start_port(uint16_t port)
{
	struct rte_eth_conf conf = {0};

	return rte_eth_dev_configure(port, 1, 1, &conf) == 0 &&
	       rte_eth_rx_queue_setup(port, 0, 512, rte_socket_id(), NULL, pool) == 0 &&
	       rte_eth_tx_queue_setup(port, 0, 512, rte_socket_id(), NULL) == 0 && rte_eth_dev_start(port) == 0;
}

int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv), i;
	uint16_t port;

	if (used < 0)
		return 1;
	pool = rte_pktmbuf_pool_create("seqgen", 16383, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, rte_socket_id());
	if (!pool)
		return 1;
	RTE_ETH_FOREACH_DEV(port) {
		if (!start_port(port)) {
			fprintf(stderr, "seqgen: port %u does not start\n", port);
			return 1;
		}
		ports[n_ports++] = port;
	}
	for (i = used + 1; i < argc && n_flows < MAX_FLOWS; i++, n_flows++) {
		if (!parse_flow(argv[i], &flows[n_flows])) {
			fprintf(stderr, "seqgen: bad flow %d\n", n_flows);
			return 2;
		}
		make_template(&flows[n_flows], n_flows);
	}
	rte_eal_mp_remote_launch(forward, NULL, SKIP_MAIN);
	print_stats();
	commands();
	atomic_store(&quit, true);
	rte_eal_mp_wait_lcore();
	return 0;
}
