//! Flags and numbers of the mining protocol's connection setup (spec 05 §5.3.1).

/// `SetupConnection.protocol`: the mining protocol.
pub const PROTOCOL_MINING: u8 = 0;
/// `SetupConnection.protocol`: job declaration.
pub const PROTOCOL_JOB_DECLARATION: u8 = 1;
/// `SetupConnection.protocol`: template distribution.
pub const PROTOCOL_TEMPLATE_DISTRIBUTION: u8 = 2;

/// The only version of the protocol there is.
pub const PROTOCOL_VERSION: u16 = 2;

/// `SetupConnection.flags`: the client cannot use extended jobs. It gets `NewMiningJob` only and no
/// group channels.
pub const REQUIRES_STANDARD_JOBS: u32 = 1 << 0;
/// `SetupConnection.flags`: the client will send `SetCustomMiningJob`.
pub const REQUIRES_WORK_SELECTION: u32 = 1 << 1;
/// `SetupConnection.flags`: no job may forbid version rolling.
pub const REQUIRES_VERSION_ROLLING: u32 = 1 << 2;

/// `SetupConnection.Success.flags`: the server takes no version but its job's. Never together with
/// the client's [`REQUIRES_VERSION_ROLLING`].
pub const REQUIRES_FIXED_VERSION: u32 = 1 << 0;
/// `SetupConnection.Success.flags`: the server refuses standard channels.
pub const REQUIRES_EXTENDED_CHANNELS: u32 = 1 << 1;
