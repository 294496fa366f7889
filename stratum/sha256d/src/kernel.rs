//! What a kernel is: the compression function for one to eight messages side by side, and which one this process uses.

use std::sync::OnceLock;

use crate::library;
use crate::schedule::Schedule;

/// The eight words that a compression turns into the next eight.
pub(crate) type State = [u32; 8];
/// What one compression takes in.
pub(crate) type Block = [u8; 64];
/// The state before the first block (FIPS 180-4, section 5.3.3).
pub(crate) const INITIAL: State =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// What double hashing needs, for `N` messages in lockstep.
pub(crate) struct Lanes<const N: usize> {
    /// Takes in message blocks, of each lane as many as of the first.
    pub(crate) blocks: fn(&mut [State; N], [&[Block]; N]),
    /// Takes in blocks whose schedules are there, of each lane as many as of the first.
    pub(crate) prepared: fn(&mut [State; N], [&[Schedule]; N]),
    /// The second hash: takes in the digest that the state is, starting anew.
    pub(crate) again: fn(&mut [State; N]),
    /// The double hash of the digest that the state is and another behind it: one step up a merkle branch.
    pub(crate) climb: fn(&mut [State; N], [&[u8; 32]; N]),
}

/// One implementation.
pub(crate) struct Kernel {
    /// For logs.
    pub(crate) name: &'static str,
    pub(crate) one: Lanes<1>,
    pub(crate) more: More,
}

/// How a kernel hashes more than one message at a time.
pub(crate) enum More {
    /// One after the other.
    No,
    /// Up to four, each lane a stream of instructions of its own.
    Four(Lanes<2>, Lanes<3>, Lanes<4>),
    /// Eight in the lanes of wide registers; fewer cost as much as eight.
    Eight(Lanes<8>),
}

/// The kernel of this process, decided at the first call.
pub(crate) fn chosen() -> &'static Kernel {
    static CHOSEN: OnceLock<&'static Kernel> = OnceLock::new();
    CHOSEN.get_or_init(|| available().next().expect("the library runs everywhere"))
}

/// The kernels that this processor can run, fastest first.
pub(crate) fn available() -> impl Iterator<Item = &'static Kernel> {
    #[cfg(target_arch = "x86_64")]
    let special = [crate::sha_ni::kernel(), crate::avx2::kernel()];
    #[cfg(not(target_arch = "x86_64"))]
    let special = [None; 2];
    special.into_iter().flatten().chain([&library::KERNEL])
}
