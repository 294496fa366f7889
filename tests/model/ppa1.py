"""The payout arithmetic once more, independent of the Rust code: integers only, standard library only.

Reads histories, a JSON object a line, and answers each with a line: the window's weights after the last share, and for
each block what its coinbase pays and what is owed behind it. Written for reading, not for speed: the window is walked
back from the newest share each time.

    {"window": W, "steps": [["share", PAYEE, POT] | ["resize", W]...], "params": {...}, "blocks": [[REWARD, ORPHANED]...]}

Amounts are satoshis, payees and scripts hex strings, work and windows decimal strings.
"""

import json
import sys

DIFFICULTY_ONE = 0xFFFF << 208


def work(pot):
    """Expected hashes of a share of difficulty 2^pot, as Bitcoin Core counts chain work."""
    target = DIFFICULTY_ONE >> pot if pot >= 0 else DIFFICULTY_ONE << -pot
    return (1 << 256) // (target + 1)


def weights(shares, window):
    """Work by payee, from the newest share back until the window is full; the oldest counts for the missing part."""
    left, by_payee = window, {}
    for payee, share in reversed(shares):
        counted = min(share, left)
        left -= counted
        if counted:
            by_payee[payee] = by_payee.get(payee, 0) + counted
    return by_payee


def split(amount, by_payee):
    """Cumulative floors in script order: they sum to the amount, and nobody owns the rounding."""
    total, below, paid, parts = sum(by_payee.values()), 0, 0, {}
    for payee in sorted(by_payee):
        below += by_payee[payee]
        upto = amount * below // total
        parts[payee] = upto - paid
        paid = upto
    return parts


def output_bytes(script):
    return 8 + 1 + len(script) // 2


def plan(reward, by_payee, credits, params):
    """Outputs in coinbase order, and what is owed afterwards."""
    fee = reward * params["fee_bp"] // 10000
    donations = [(script, reward * bp // 10000) for bp, script in params["donations"]]
    for_miners = reward - fee - sum(sats for _, sats in donations)
    earned = split(for_miners, by_payee)
    everybody = set(earned) | set(credits)
    due = {payee: earned.get(payee, 0) + credits.get(payee, 0) for payee in everybody}
    minimum, room, chosen = params["min_payout"], params["out_bytes"], []
    for payee in sorted((p for p in everybody if due[p] >= minimum), key=lambda p: (-due[p], p)):
        room -= output_bytes(payee)
        if room < 0:
            break
        chosen.append(payee)
    while True:
        # Old credit is paid out of value that this block does not place otherwise.
        left, paid = for_miners - sum(earned.get(payee, 0) for payee in chosen), {}
        for payee in chosen:
            credit = min(credits.get(payee, 0), left)
            left -= credit
            paid[payee] = earned.get(payee, 0) + credit
        too_little = [payee for payee in chosen if paid[payee] < minimum]
        if not too_little:
            break
        chosen.remove(too_little[-1])
    owed = {payee: due[payee] - paid.get(payee, 0) for payee in everybody}
    outputs = [(payee, paid[payee]) for payee in chosen]
    others = [(script, sats) for script, sats in donations + [(params["fee_script"], fee)] if sats]
    if params["fee_inline"]:
        outputs += others
    else:
        for script, sats in others:
            owed[script] = owed.get(script, 0) + sats
            left += sats
    if left:
        outputs.append((params["reserve_script"], left))
    return outputs, {payee: sats for payee, sats in owed.items() if sats}


def live(history):
    window, shares, credits, blocks = int(history["window"]), [], {}, []
    for step in history["steps"]:
        if step[0] == "share":
            shares.append((step[1], work(step[2])))
        else:
            window = int(step[1])
    by_payee = weights(shares, window)
    for reward, orphaned in history["blocks"] if by_payee else []:
        outputs, owed = plan(reward, by_payee, credits, history["params"])
        assert sum(sats for _, sats in outputs) == reward
        blocks.append({"outputs": outputs, "owed": sorted(owed.items())})
        if not orphaned:
            credits = owed
    return {"weights": sorted((payee, str(part)) for payee, part in by_payee.items()), "blocks": blocks}


for line in sys.stdin:
    print(json.dumps(live(json.loads(line))))
