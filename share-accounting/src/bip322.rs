//! Whether the owner of an address has signed a message (BIP 322), for addresses of one key.
//!
//! Understood are, as wallets make them: the simple form (a witness) for P2WPKH and P2TR, the full form (a transaction)
//! for these and for P2WPKH in P2SH, and the older compact signature for P2PKH. A transaction is taken only if it is the
//! one that BIP 322 gives, without further inputs, locks or other sighash types than ALL: nothing is left to judge.

use bitcoin::absolute::LockTime;
use bitcoin::address::AddressType;
use bitcoin::consensus::{Decodable, deserialize};
use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak;
use bitcoin::opcodes::OP_0;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::Builder;
use bitcoin::secp256k1::{Message, Secp256k1, VerifyOnly};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::sign_message::{MessageSignature, signed_msg_hash};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, CompressedPublicKey, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, TapSighashType,
    Transaction, TxIn, TxOut, Witness, XOnlyPublicKey, ecdsa, taproot,
};
use stratum::payee::tagged_hash;

/// Why a signature says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsigned {
    /// Of several keys, or of none.
    #[error("only addresses of a single key can sign: P2WPKH, P2TR, P2PKH, and P2WPKH in P2SH")]
    Address,
    /// Not one of the forms.
    #[error("this is no signature for this kind of address (BIP 322)")]
    Form,
    /// Of another key, or of another message.
    #[error("the signature is not that of the address's owner over this message")]
    Wrong,
}

/// Checks a signature over a message.
///
/// # Errors
/// It is not the owner's, or cannot be judged: see [`Unsigned`].
pub fn verify(address: &Address, message: &str, signature: &[u8]) -> Result<(), Unsigned> {
    match address.address_type().ok_or(Unsigned::Address)? {
        AddressType::P2pkh => compact(address, message, signature),
        AddressType::P2wpkh | AddressType::P2sh | AddressType::P2tr => {
            let spend = to_spend(address.script_pubkey(), message);
            let sign = to_sign(&spend, signature)?;
            spends(&sign, &spend.output[0])
        }
        _ => Err(Unsigned::Address),
    }
}

/// The signature of `signmessage` before BIP 322.
fn compact(address: &Address, message: &str, signature: &[u8]) -> Result<(), Unsigned> {
    let signature = MessageSignature::from_slice(signature).map_err(|_| Unsigned::Form)?;
    let signed = signature.is_signed_by_address(&Secp256k1::new(), address, signed_msg_hash(message));
    if signed.map_err(|_| Unsigned::Wrong)? { Ok(()) } else { Err(Unsigned::Wrong) }
}

/// The transaction that nobody can have made, whose output the owner spends.
fn to_spend(script_pubkey: ScriptBuf, message: &str) -> Transaction {
    let digest = tagged_hash("BIP0322-signed-message", &[message.as_bytes()]);
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: Builder::new().push_opcode(OP_0).push_slice(digest).into_script(),
        sequence: Sequence::ZERO,
        witness: Witness::new(),
    };
    let output = TxOut { value: Amount::ZERO, script_pubkey };
    Transaction { version: Version(0), lock_time: LockTime::ZERO, input: vec![input], output: vec![output] }
}

/// The transaction that spends it, with the signature in it.
fn to_sign(spend: &Transaction, signature: &[u8]) -> Result<Transaction, Unsigned> {
    let with = |script_sig, witness| {
        let previous_output = OutPoint { txid: spend.compute_txid(), vout: 0 };
        let input = TxIn { previous_output, script_sig, sequence: Sequence::ZERO, witness };
        let script_pubkey = Builder::new().push_opcode(OP_RETURN).into_script();
        let output = TxOut { value: Amount::ZERO, script_pubkey };
        Transaction {
            version: Version(0),
            lock_time: LockTime::ZERO,
            input: vec![input],
            output: vec![output],
        }
    };
    if let Ok(full) = deserialize::<Transaction>(signature) {
        let input = full.input.first().ok_or(Unsigned::Form)?;
        let wanted = with(input.script_sig.clone(), input.witness.clone());
        // It may have version 2, too.
        let wanted = Transaction { version: full.version, ..wanted };
        if input.previous_output != wanted.input[0].previous_output {
            return Err(Unsigned::Wrong);
        }
        let is_plain = full == wanted && [Version(0), Version::TWO].contains(&full.version);
        return if is_plain { Ok(full) } else { Err(Unsigned::Form) };
    }
    let mut rest = signature;
    let witness = Witness::consensus_decode(&mut rest).map_err(|_| Unsigned::Form)?;
    if rest.is_empty() { Ok(with(ScriptBuf::new(), witness)) } else { Err(Unsigned::Form) }
}

/// Whether a transaction's one input may spend an output of one key.
fn spends(sign: &Transaction, spent: &TxOut) -> Result<(), Unsigned> {
    let TxIn { script_sig, witness, .. } = &sign.input[0];
    let (script, secp) = (&spent.script_pubkey, Secp256k1::verification_only());
    if script.is_p2tr() {
        if !script_sig.is_empty() {
            return Err(Unsigned::Form);
        }
        return spends_p2tr(sign, spent, &secp);
    }
    let [signature, key] = witness.iter().collect::<Vec<_>>()[..] else { return Err(Unsigned::Form) };
    let key = CompressedPublicKey::from_slice(key).map_err(|_| Unsigned::Form)?;
    let signature = ecdsa::Signature::from_slice(signature).map_err(|_| Unsigned::Form)?;
    if signature.sighash_type != EcdsaSighashType::All {
        return Err(Unsigned::Form);
    }
    let program = ScriptBuf::new_p2wpkh(&key.wpubkey_hash());
    let (whose, unlocks) = if script.is_p2sh() {
        let push =
            Builder::new().push_slice(<[u8; 22]>::try_from(program.as_bytes()).expect("it has 22 bytes"));
        (program.to_p2sh(), push.into_script())
    } else {
        (program.clone(), ScriptBuf::new())
    };
    if *script != whose {
        return Err(Unsigned::Wrong);
    }
    if *script_sig != unlocks {
        return Err(Unsigned::Form);
    }
    let hash = SighashCache::new(sign).p2wpkh_signature_hash(0, &program, spent.value, EcdsaSighashType::All);
    let hash = Message::from_digest(hash.expect("the input is there").to_byte_array());
    secp.verify_ecdsa(&hash, &signature.signature, &key.0).map_err(|_| Unsigned::Wrong)
}

fn spends_p2tr(sign: &Transaction, spent: &TxOut, secp: &Secp256k1<VerifyOnly>) -> Result<(), Unsigned> {
    let [signature] = sign.input[0].witness.iter().collect::<Vec<_>>()[..] else {
        return Err(Unsigned::Form);
    };
    let signature = taproot::Signature::from_slice(signature).map_err(|_| Unsigned::Form)?;
    if ![TapSighashType::Default, TapSighashType::All].contains(&signature.sighash_type) {
        return Err(Unsigned::Form);
    }
    let key =
        XOnlyPublicKey::from_slice(&spent.script_pubkey.as_bytes()[2..]).map_err(|_| Unsigned::Address)?;
    let hash = SighashCache::new(sign)
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&[spent]), signature.sighash_type)
        .map_err(|_| Unsigned::Form)?;
    let hash = Message::from_digest(hash.to_byte_array());
    // The program is the key as it was tweaked.
    let key = key.dangerous_assume_tweaked().to_x_only_public_key();
    secp.verify_schnorr(&signature.signature, &hash, &key).map_err(|_| Unsigned::Wrong)
}

#[cfg(test)]
pub(crate) mod signer;
#[cfg(test)]
mod tests;
