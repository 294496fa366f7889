use super::*;
use crate::template::tests::{Tx, answer_of, template_of};
use crate::template::{BLOCK_WEIGHT_MAX, TemplateError};
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashMap;

fn transactions() -> impl Strategy<Value = Vec<Tx>> {
    let one = (
        0_u64..5_000,
        0_u64..400,
        0_usize..3_000,
        proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
    );
    proptest::collection::vec(one, 1..60).prop_map(|list| {
        let with_depends = list.into_iter().enumerate().map(|(place, (fee, sigops, padding, parents))| {
            let mut depends: Vec<usize> =
                parents.iter().filter(|_| place > 0).map(|parent| parent.index(place)).collect();
            depends.sort_unstable();
            depends.dedup();
            Tx { fee, sigops, padding, depends }
        });
        with_depends.collect()
    })
}

fn load(template: &Template) -> (u64, u64, u64) {
    let sum = |of: fn(&TemplateTx) -> u64| template.transactions().iter().map(of).sum::<u64>();
    (sum(|tx| tx.weight), sum(|tx| tx.sigops), sum(|tx| tx.fee))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("SLUICE_LONG").is_some() { 100_000 } else { 256 }))]

    #[test]
    fn cb_06_cb_09_what_is_left_fits_keeps_parents_and_is_worth_its_fees(
        list in transactions(),
        weight_percent in 0_u64..120,
        sigops_percent in 0_u64..120,
    ) {
        let coinbase = CoinbaseCost::largest(SizeClass::B755);
        let mut template = template_of(&list);
        let (weight, sigops, fees) = load(&template);
        template.limits.weight = coinbase.weight() + 4 * 83 + weight * weight_percent / 100;
        template.limits.sigops = coinbase.sigops + sigops * sigops_percent / 100;
        let template = Arc::new(template);
        let fitted = template.fit(coinbase);
        let (kept_weight, kept_sigops, kept_fees) = load(&fitted);
        prop_assert!(kept_weight + coinbase.weight() + 4 * 81 <= template.limits.weight);
        prop_assert!(kept_sigops + coinbase.sigops <= template.limits.sigops);
        prop_assert_eq!(fitted.value(), template.value() - (fees - kept_fees));
        let places: HashMap<[u8; 32], usize> =
            fitted.transactions().iter().enumerate().map(|(place, tx)| (tx.txid, place)).collect();
        for tx in template.transactions() {
            let Some(&place) = places.get(&tx.txid) else { continue };
            let kept = &fitted.transactions()[place];
            prop_assert_eq!(
                &fitted.transaction_bytes()[kept.range.clone()],
                &template.transaction_bytes()[tx.range.clone()]
            );
            let parents: Vec<[u8; 32]> = tx.depends.iter().map(|&p| template.transactions()[p].txid).collect();
            let kept_parents: Vec<[u8; 32]> =
                kept.depends.iter().map(|&p| fitted.transactions()[p].txid).collect();
            prop_assert_eq!(parents, kept_parents);
            prop_assert!(kept.depends.iter().all(|&p| p < place));
        }
        let mut sealed = (*fitted).clone();
        sealed.seal();
        prop_assert_eq!(&sealed, &*fitted);
        if weight_percent >= 101 && sigops_percent >= 100 {
            prop_assert!(Arc::ptr_eq(&template, &fitted), "nothing is dropped without need");
        }
    }
}

#[test]
fn gb_04_a_template_whose_fees_are_its_whole_value_can_lose_one() {
    let list = [10, 20, 30].map(|fee| Tx { fee, sigops: 79_000 / 3, padding: 20, depends: vec![] });
    let mut answer = answer_of(&list);
    let fitted = |answer: &serde_json::Value| {
        let template = Template::parse(answer.to_string().as_bytes(), bitcoin::Network::Regtest)?;
        Ok(Arc::new(template).fit(CoinbaseCost::largest(SizeClass::B16000)))
    };
    answer["coinbasevalue"] = json!(60);
    answer["sigoplimit"] = json!(79_000);
    let fitted_value = |answer: &serde_json::Value| fitted(answer).map(|template| template.value());
    assert_eq!(fitted_value(&answer), Ok(50));
    answer["coinbasevalue"] = json!(9);
    assert_eq!(fitted_value(&answer), Err(TemplateError::ValueBelowFees { value: 9, fees: 60 }));
}

#[test]
fn the_cheapest_family_goes_first_and_a_rich_child_saves_its_parent() {
    let tx = |fee, depends| Tx { fee, sigops: 0, padding: 500, depends };
    // The poor parent 0 has a rich child 2; 1 is the cheapest by itself.
    let mut template = template_of(&[tx(1, vec![]), tx(100, vec![]), tx(5_000, vec![0]), tx(400, vec![])]);
    let coinbase = CoinbaseCost::largest(SizeClass::B755);
    template.limits.weight = coinbase.weight() + 4 * 81 + load(&template).0 - 1;
    let fitted = Arc::new(template).fit(coinbase);
    assert_eq!(fitted.transactions().iter().map(|tx| tx.fee).collect::<Vec<_>>(), [1, 5_000, 400]);
}

#[test]
fn cb_09_the_largest_class_needs_more_than_a_node_reserves_by_itself() {
    let cost = CoinbaseCost::largest(SizeClass::B16000);
    assert!(cost.weight() > 8_000 && cost.sigops > 400 && cost.weight() < BLOCK_WEIGHT_MAX);
}
