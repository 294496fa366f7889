//! Signs for the addresses of tests.

use super::{to_sign, to_spend};
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::SighashCache;
use bitcoin::{Address, Amount, CompressedPublicKey, EcdsaSighashType, Network, Witness, consensus, ecdsa};

fn key(n: u8) -> (SecretKey, CompressedPublicKey) {
    let secret = SecretKey::from_slice(&[n; 32]).unwrap();
    (secret, CompressedPublicKey(secret.public_key(&Secp256k1::new())))
}

/// A P2WPKH address of regtest.
pub fn address(n: u8) -> Address {
    Address::p2wpkh(&key(n).1, Network::Regtest)
}

/// The simple form.
pub fn sign(n: u8, message: &str) -> Vec<u8> {
    let ((secret, public), script) = (key(n), address(n).script_pubkey());
    let spend = to_spend(script.clone(), message);
    let unsigned = to_sign(&spend, &[0]).unwrap();
    let sighash_type = EcdsaSighashType::All;
    let hash =
        SighashCache::new(unsigned).p2wpkh_signature_hash(0, &script, Amount::ZERO, sighash_type).unwrap();
    let signature = Secp256k1::new().sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &secret);
    consensus::serialize(&Witness::p2wpkh(&ecdsa::Signature { signature, sighash_type }, &public.0))
}
