//! The common messages (spec 03 §3.6) and those of the mining protocol (05 §5.3), in the order of
//! spec 08. Each row: type, channel bit, name, fields in wire order.

use super::*;

messages! {
    /// The first message on a connection: what its sender speaks and needs.
    0x00 0 SetupConnection {
        /// The protocol that is spoken here: [`flag::PROTOCOL_MINING`](crate::v2::flag::PROTOCOL_MINING).
        protocol: u8,
        /// The lowest version that the sender speaks.
        min_version: u16,
        /// The highest version that the sender speaks.
        max_version: u16,
        /// What the sender needs, see [`flag`](crate::v2::flag).
        flags: u32,
        /// The host that the sender connected to.
        endpoint_host: Str255,
        /// The port that the sender connected to.
        endpoint_port: u16,
        /// Who made the device.
        vendor: Str255,
        /// Which device it is.
        hardware_version: Str255,
        /// What runs on it.
        firmware: Str255,
        /// The device among its likes; empty unless its owner wants otherwise.
        device_id: Str255,
    }

    /// The connection stands.
    0x01 0 SetupConnectionSuccess {
        /// The version that is spoken from here on.
        used_version: u16,
        /// What the server needs, see [`flag`](crate::v2::flag).
        flags: u32,
    }

    /// The connection ends.
    0x02 0 SetupConnectionError {
        /// All flags that the server does not offer; 0 if it ends for another reason.
        flags: u32,
        /// Why.
        error_code: Str255,
    }

    /// The upstream of a channel is another one now: extensions are negotiated anew on it.
    0x03 1 ChannelEndpointChanged {
        /// The channel.
        channel_id: u32,
    }

    /// The client is asked to connect elsewhere, with the same authority key.
    0x04 0 Reconnect {
        /// Where to; empty for the same host.
        new_host: Str255,
        /// Where to; 0 for the same port.
        new_port: u16,
    }

    /// Asks for a channel whose device rolls no extranonce.
    0x10 0 OpenStandardMiningChannel {
        /// Links the answer to this request.
        request_id: u32,
        /// Who is paid, as the pool writes it.
        user_identity: Str255,
        /// Expected hash rate in hashes per second; 0 if no device is attached yet.
        nominal_hash_rate: f32,
        /// The easiest target that the client accepts.
        max_target: U256,
    }

    /// The standard channel is open.
    0x11 0 OpenStandardMiningChannelSuccess {
        /// The request's.
        request_id: u32,
        /// The channel, constant and unique on this connection.
        channel_id: u32,
        /// What its shares have to meet.
        target: U256,
        /// The channel's own part of the coinbase.
        extranonce_prefix: Bytes32,
        /// The group that the channel belongs to.
        group_channel_id: u32,
    }

    /// No channel was opened.
    0x12 0 OpenMiningChannelError {
        /// The request's.
        request_id: u32,
        /// Why.
        error_code: Str255,
    }

    /// Asks for a channel whose client rolls an extranonce.
    0x13 0 OpenExtendedMiningChannel {
        /// Links the answer to this request.
        request_id: u32,
        /// Who is paid, as the pool writes it.
        user_identity: Str255,
        /// Expected hash rate in hashes per second; 0 if no device is attached yet.
        nominal_hash_rate: f32,
        /// The easiest target that the client accepts.
        max_target: U256,
        /// Bytes of extranonce that the client needs to roll.
        min_extranonce_size: u16,
    }

    /// The extended channel is open.
    0x14 0 OpenExtendedMiningChannelSuccess {
        /// The request's.
        request_id: u32,
        /// The channel, constant and unique on this connection.
        channel_id: u32,
        /// What its shares have to meet.
        target: U256,
        /// Bytes of extranonce that the client rolls: all of them stand in every share.
        extranonce_size: u16,
        /// The channel's own part of the coinbase, before what the client rolls.
        extranonce_prefix: Bytes32,
        /// The group that the channel belongs to.
        group_channel_id: u32,
    }

    /// Work for a standard channel.
    0x15 1 NewMiningJob {
        /// The channel.
        channel_id: u32,
        /// The job, unique on its channel as long as it is valid.
        job_id: u32,
        /// The lowest header time. Absent: the job waits for the `SetNewPrevHash` that names it.
        min_ntime: Option<u32>,
        /// The header version, of which the bits of BIP 323 may be rolled.
        version: u32,
        /// The header's merkle root.
        merkle_root: U256,
    }

    /// The client's hash rate or its needs have changed.
    0x16 1 UpdateChannel {
        /// The channel.
        channel_id: u32,
        /// Expected hash rate in hashes per second.
        nominal_hash_rate: f32,
        /// The easiest target that the client accepts from here on.
        maximum_target: U256,
    }

    /// The channel stays as it was.
    0x17 1 UpdateChannelError {
        /// The channel.
        channel_id: u32,
        /// Why.
        error_code: Str255,
    }

    /// The channel, or every channel of a group, is closed; either side may say so.
    0x18 1 CloseChannel {
        /// The channel or group.
        channel_id: u32,
        /// Why.
        reason_code: Str255,
    }

    /// The channel's part of the coinbase in jobs sent after this message.
    0x19 1 SetExtranoncePrefix {
        /// The channel, never a group.
        channel_id: u32,
        /// The new prefix.
        extranonce_prefix: Bytes32,
    }

    /// A share on a standard channel.
    0x1a 1 SubmitSharesStandard {
        /// The channel.
        channel_id: u32,
        /// Links the answer to this share.
        sequence_number: u32,
        /// The job.
        job_id: u32,
        /// The header's nonce.
        nonce: u32,
        /// The header's time.
        ntime: u32,
        /// The header's whole version.
        version: u32,
    }

    /// A share on an extended channel.
    0x1b 1 SubmitSharesExtended {
        /// The channel.
        channel_id: u32,
        /// Links the answer to this share.
        sequence_number: u32,
        /// The job.
        job_id: u32,
        /// The header's nonce.
        nonce: u32,
        /// The header's time.
        ntime: u32,
        /// The header's whole version.
        version: u32,
        /// What the client rolled, exactly `extranonce_size` bytes.
        extranonce: Bytes32,
    }

    /// Shares were accepted.
    0x1c 1 SubmitSharesSuccess {
        /// The channel.
        channel_id: u32,
        /// The newest share that this answer covers.
        last_sequence_number: u32,
        /// How many shares it covers.
        new_submits_accepted_count: u32,
        /// The sum of their difficulties.
        new_shares_sum: u64,
    }

    /// One share was refused.
    0x1d 1 SubmitSharesError {
        /// The channel.
        channel_id: u32,
        /// The share.
        sequence_number: u32,
        /// Why.
        error_code: Str255,
    }

    /// Work for an extended channel or a group.
    0x1f 1 NewExtendedMiningJob {
        /// The channel or group.
        channel_id: u32,
        /// The job, unique on its channel as long as it is valid.
        job_id: u32,
        /// The lowest header time. Absent: the job waits for the `SetNewPrevHash` that names it.
        min_ntime: Option<u32>,
        /// The header version.
        version: u32,
        /// Whether its bits of BIP 323 may be rolled.
        version_rolling_allowed: bool,
        /// The siblings on the way from the coinbase to the merkle root, deepest first.
        merkle_path: Seq255<U256>,
        /// The coinbase before the extranonce prefix, without witness (BIP 141).
        coinbase_tx_prefix: Bytes64K,
        /// The coinbase behind the extranonce, without witness.
        coinbase_tx_suffix: Bytes64K,
    }

    /// A new parent block. Only the job named here stays valid.
    0x20 1 SetNewPrevHash {
        /// The channel or group.
        channel_id: u32,
        /// The job to work on, sent before without a `min_ntime`.
        job_id: u32,
        /// The parent's hash.
        prev_hash: U256,
        /// The lowest header time.
        min_ntime: u32,
        /// The network target in compact form.
        nbits: u32,
    }

    /// What shares of jobs sent or activated after this message have to meet.
    0x21 1 SetTarget {
        /// The channel or group.
        channel_id: u32,
        /// The target.
        maximum_target: U256,
    }

    /// Asks to mine the client's own job.
    0x22 1 SetCustomMiningJob {
        /// The extended channel or group.
        channel_id: u32,
        /// Links the answer to this request.
        request_id: u32,
        /// What the job declaration server gave out for it.
        mining_job_token: Bytes255,
        /// The header version.
        version: u32,
        /// The parent's hash.
        prev_hash: U256,
        /// The lowest header time.
        min_ntime: u32,
        /// The network target in compact form.
        nbits: u32,
        /// The coinbase's version.
        coinbase_tx_version: u32,
        /// The start of the coinbase's script.
        coinbase_prefix: Bytes255,
        /// The sequence of the coinbase's input.
        coinbase_tx_input_n_sequence: u32,
        /// The coinbase's outputs, counted and serialised.
        coinbase_tx_outputs: Bytes64K,
        /// The coinbase's lock time.
        coinbase_tx_locktime: u32,
        /// The siblings on the way from the coinbase to the merkle root, deepest first.
        merkle_path: Seq255<U256>,
    }

    /// The custom job will be paid.
    0x23 1 SetCustomMiningJobSuccess {
        /// The channel or group.
        channel_id: u32,
        /// The request's.
        request_id: u32,
        /// The id under which its shares are sent.
        job_id: u32,
    }

    /// The custom job is refused.
    0x24 1 SetCustomMiningJobError {
        /// The channel or group.
        channel_id: u32,
        /// The request's.
        request_id: u32,
        /// Why.
        error_code: Str255,
    }

    /// Which channels a group has. The channel bit is clear, although the first field is a group's id.
    0x25 0 SetGroupChannel {
        /// The group.
        group_channel_id: u32,
        /// Its members.
        channel_ids: Seq64K<u32>,
    }
}
