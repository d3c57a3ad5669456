//! Rings between a worker and the underlay's agent.
//!
//! Three rings lead to the agent, so that a flood of one kind cannot keep out another: ARP (without which nothing
//! moves), other frames for the host, and packets that wait for a next hop. Their places are shared out
//! [fairly](crate::fair), so that a VM that floods a VTEP without a next hop does not keep out another's first packet.

use crate::fair::{FairProducer, fair_ring};
use rtrb::{Consumer, Producer, RingBuffer};
use weft_port::Mbuf;

/// Which ring a packet takes to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// ARP.
    Arp = 0,
    /// Packets that wait for a VTEP's next hop.
    Hold = 1,
    /// Anything else for weft's own address or the kernel.
    Host = 2,
}

/// Places in each ring, in the order of [`Ring`]. The uplink, alone on its rings, gets half of them.
const PLACES: [usize; 3] = [512, 256, 2048];
/// Places in the ring from the agent.
const INJECT: usize = 1024;

/// From a worker to the agent.
#[derive(Debug)]
pub enum Punt {
    /// A frame that arrived on the uplink and is not a tunnel packet.
    Host {
        /// The frame.
        mbuf: Mbuf,
        /// The uplink's slot.
        src: u16,
    },
    /// A frame to encapsulate as soon as the VTEP's next hop has a MAC.
    Hold {
        /// The inner frame.
        mbuf: Mbuf,
        /// The VTEP's slot.
        vtep: u16,
        /// The bridge domain's network id.
        network: u32,
        /// The slot that the frame came from.
        src: u16,
    },
}

/// From the agent to a worker.
#[derive(Debug)]
pub enum Inject {
    /// A complete frame for the uplink.
    Uplink(Mbuf),
    /// A held frame whose next hop is resolved now.
    Encap {
        /// The inner frame.
        mbuf: Mbuf,
        /// The VTEP's slot.
        vtep: u16,
        /// The bridge domain's network id.
        network: u32,
        /// The slot that the frame came from.
        src: u16,
    },
}

/// A worker's end.
pub struct PuntTx([FairProducer<Punt>; 3]);

impl PuntTx {
    /// Hands a packet to the agent; gives it back if the ring has no place for its source.
    pub fn push(&mut self, ring: Ring, p: Punt) -> Result<(), Punt> {
        let (Punt::Host { src, .. } | Punt::Hold { src, .. }) = &p;
        self.0[ring as usize].push(*src, p)
    }
}

/// The agent's ends for one worker.
pub struct AgentEnds {
    /// In the order of [`Ring`], which is the order of urgency.
    pub from: [Consumer<Punt>; 3],
    /// To the worker.
    pub to: Producer<Inject>,
}

impl AgentEnds {
    /// Packets in the rings now.
    pub fn held(&self) -> usize {
        self.from.iter().map(Consumer::slots).sum::<usize>() + (INJECT - self.to.slots())
    }
}

/// Makes the rings of one worker.
pub fn rings() -> (PuntTx, Consumer<Inject>, AgentEnds) {
    let ((p0, c0), (p1, c1), (p2, c2)) = (fair_ring(PLACES[0]), fair_ring(PLACES[1]), fair_ring(PLACES[2]));
    let (to, inject) = RingBuffer::new(INJECT);
    (PuntTx([p0, p1, p2]), inject, AgentEnds { from: [c0, c1, c2], to })
}
