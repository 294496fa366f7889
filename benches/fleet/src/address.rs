//! Addresses for tests: the same for the same seed, on networks without value only.

use crate::cli::AddressArgs;
use bitcoin::hashes::Hash;
use bitcoin::{Address, KnownHrp, Network, WPubkeyHash, WitnessProgram, WitnessVersion};
use std::process::ExitCode;

/// Prints one address.
///
/// # Errors
/// On the main network: nobody holds a key to these addresses.
#[expect(clippy::print_stdout, reason = "the address is what the command is for")]
pub fn run(args: &AddressArgs) -> anyhow::Result<ExitCode> {
    println!("{}", derive(args.network, args.seed)?);
    Ok(ExitCode::SUCCESS)
}

/// The address of a seed: a key hash that no key was ever made for.
pub fn derive(network: Network, seed: u64) -> anyhow::Result<Address> {
    let hrp = match network {
        Network::Bitcoin => anyhow::bail!("nobody could spend from this address: not on the main network"),
        Network::Regtest => KnownHrp::Regtest,
        _ => KnownHrp::Testnets,
    };
    let hash = WPubkeyHash::hash(format!("fleet address {seed}").as_bytes());
    let program = WitnessProgram::new(WitnessVersion::V0, hash.as_byte_array())?;
    Ok(Address::from_witness_program(program, hrp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stratum::payee::Payee;

    #[test]
    fn seeds_give_distinct_addresses_that_pools_take() {
        let one = derive(Network::Signet, 1).unwrap();
        assert_eq!(one, derive(Network::Signet, 1).unwrap());
        assert_ne!(one, derive(Network::Signet, 2).unwrap());
        for network in [Network::Signet, Network::Testnet, Network::Regtest] {
            let address = derive(network, 7).unwrap();
            assert_eq!(
                Payee::parse(&format!("{address}.rig"), network).unwrap().script,
                address.script_pubkey()
            );
        }
    }

    #[test]
    fn the_main_network_is_refused() {
        assert!(derive(Network::Bitcoin, 1).is_err());
    }
}
