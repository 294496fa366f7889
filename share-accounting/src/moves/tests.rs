use super::*;
use crate::testing::{moved, script};

const LOG: [u8; 16] = [7; 16];

fn noted(moves: &mut Moves, from: u8, to: u8) -> Result<(), MoveError> {
    let moved = moved(LOG, from, script(to));
    moves.check(&moved, Network::Regtest)?;
    moves.note(&moved, false);
    Ok(())
}

#[test]
fn what_was_owed_to_an_old_address_is_owed_to_the_newest() {
    let mut moves = Moves::default();
    noted(&mut moves, 200, 201).unwrap();
    noted(&mut moves, 202, 201).unwrap();
    noted(&mut moves, 201, 3).unwrap();
    for from in [200, 201, 202, 3] {
        assert_eq!(moves.payee(&script(from)), &script(3), "{from}");
    }
    assert_eq!(moves.payee(&script(4)), &script(4));
    let sums = [(&script(200), 1), (&script(3), 10), (&script(202), 100), (&script(4), 1_000)];
    assert_eq!(moves.gathered(sums), [(script(3), 111), (script(4), 1_000)].into());
    let credits = Arc::new(BTreeMap::from([(script(4), 5)]));
    assert!(Arc::ptr_eq(&moves.credits(&credits), &credits), "nothing of it has moved");
}

#[test]
fn an_address_moves_once_and_nobody_moves_to_one_that_has_left() {
    let mut moves = Moves::default();
    noted(&mut moves, 200, 201).unwrap();
    let before = moves.clone();
    assert_eq!(noted(&mut moves, 200, 203), Err(MoveError::HasMoved("the old address")));
    assert_eq!(noted(&mut moves, 202, 200), Err(MoveError::HasMoved("the new address")));
    assert_eq!(noted(&mut moves, 201, 200), Err(MoveError::HasMoved("the new address")), "no circle");
    assert_eq!(noted(&mut moves, 202, 202), Err(MoveError::Same));
    assert_eq!(moves, before);
}

#[test]
fn only_the_owner_of_the_old_address_moves_it_and_only_in_this_log() {
    let mut moves = Moves::default();
    let by_another = Move { from: script(201), ..moved(LOG, 200, script(1)) };
    let elsewhere = Move { to: script(2), ..moved(LOG, 200, script(1)) };
    let other_log = Move { log_id: [8; 16], ..moved(LOG, 200, script(1)) };
    for forged in [by_another, elsewhere, other_log] {
        let refused = moves.check(&forged, Network::Regtest);
        assert_eq!(refused, Err(MoveError::Unsigned(Unsigned::Wrong)), "{forged:?}");
    }
    assert_eq!(moves, Moves::default());
    noted(&mut moves, 200, 1).unwrap();
    let refused = moves.check(&moved([8; 16], 201, script(1)), Network::Regtest);
    assert_eq!(refused, Err(MoveError::OtherLog));
    // Of a witness version that is not in use: whoever likes could spend it.
    let future = Move { to: ScriptBuf::from_bytes(vec![0x52, 2, 7, 7]), ..moved(LOG, 201, script(1)) };
    assert_eq!(moves.check(&future, Network::Regtest), Err(MoveError::NoAddress("the new one")));
    let nowhere = Move { to: ScriptBuf::from_bytes(vec![0x51]), ..moved(LOG, 201, script(1)) };
    assert_eq!(moves.check(&nowhere, Network::Regtest), Err(MoveError::NoAddress("the new one")));
}
