//! Which job is worked on when, with which target and prefix.

use super::*;

#[test]
fn mn_28_a_job_with_a_time_is_begun_at_once_and_one_without_waits_for_its_parent() {
    let mut talk = Talk::extended(2);
    assert_eq!(talk.work(job(2, 1, None)), []);
    let first = talk.work(tip(2, 1, 0xaa));
    let [(first, true)] = &first[..] else { panic!("{first:?}") };
    assert_eq!((first.id, first.min_ntime, first.prev_hash.to_string()), (1, 100, "aa".repeat(32)));
    let second = talk.work(job(2, 2, Some(150)));
    let [(second, false)] = &second[..] else { panic!("{second:?}") };
    assert_eq!((second.id, second.min_ntime, second.prev_hash), (2, 150, first.prev_hash));
    assert!(talk.client.is_live(first) && talk.client.is_live(second));
}

#[test]
fn mn_32_a_new_parent_leaves_one_job_only() {
    let mut talk = Talk::extended(2);
    let old = talk.begin(2).remove(0).0;
    for id in [5, 6] {
        talk.hear(job(2, id, None));
    }
    let new = talk.work(tip(2, 5, 2)).remove(0).0;
    assert!(talk.client.is_live(&new) && !talk.client.is_live(&old));
    // The one that was not named is gone too.
    assert_eq!(talk.try_hear(tip(2, 6, 3)).unwrap_err().label(), "misbehaved");
}

#[test]
fn mn_35_active_jobs_keep_their_target_and_waiting_ones_take_the_newest() {
    let mut talk = Talk::extended(2);
    let active = talk.begin(2).remove(0).0;
    talk.hear(job(2, 2, None));
    talk.events.clear();
    talk.hear(target(2, 0x7f));
    let hard = Target::try_from(target(2, 0x7f).maximum_target).unwrap();
    assert_eq!(talk.take(), [Event::Target { channel: 2, target: hard }]);
    assert_eq!(active.target, Target::MAX);
    assert_eq!(talk.work(job(2, 3, Some(100)))[0].0.target, hard);
    talk.hear(target(2, 0x3f));
    let waited = &talk.work(tip(2, 2, 2))[0].0;
    assert_eq!(U256::from(waited.target), target(2, 0x3f).maximum_target);
}

#[test]
fn mn_35_a_target_for_a_group_is_for_all_of_it() {
    let mut talk = Talk::extended(2);
    talk.open_standard(3);
    talk.hear(target(GROUP, 1));
    let channels: Vec<_> = talk
        .take()
        .into_iter()
        .map(|event| match event {
            Event::Target { channel, target } => (channel, target),
            other => panic!("{other:?}"),
        })
        .collect();
    let hard = Target::try_from(target(GROUP, 1).maximum_target).unwrap();
    assert_eq!(channels, [(2, hard), (3, hard)]);
    assert!(talk.begin(GROUP).iter().all(|(job, _)| job.target == hard));
}

#[test]
fn mn_18_a_new_prefix_is_for_jobs_that_come_after_it() {
    let mut talk = Talk::extended(2);
    let old = talk.begin(2).remove(0).0;
    talk.hear(job(2, 2, None));
    talk.events.clear();
    talk.hear(SetExtranoncePrefix { channel_id: 2, extranonce_prefix: [9; 6].into() });
    assert_eq!(talk.take(), [Event::Prefix { channel: 2, extranonce_prefix: [9; 6].into() }]);
    let new = talk.work(job(2, 3, Some(100))).remove(0).0;
    let waited = talk.work(tip(2, 2, 2)).remove(0).0;
    for (job, prefix) in
        [(old, Bytes32::from([1, 2, 3, 4])), (waited, [1, 2, 3, 4].into()), (new, [9; 6].into())]
    {
        assert_eq!(job.extranonce_prefix, prefix);
        let coinbase = [&[1; 60][..], prefix.as_bytes(), &[5; 8], &[2; 60]].concat();
        let root = sha256d::sha256d_pair(&sha256d::sha256d(&coinbase), &[9; 32]);
        assert_eq!(job.merkle_root(&[5; 8]), root);
        assert_eq!(job.header(&[5; 8], 1, 2, 3)[36..68], root);
    }
}

#[test]
fn jobs_for_a_group_are_for_each_of_its_channels_with_its_own_prefix() {
    let mut talk = Talk::extended(2);
    talk.begin(2);
    talk.open_standard(3);
    // The standard channel has just been opened: no parent was named to it.
    let works = talk.work(job(GROUP, 2, Some(100)));
    assert_eq!(works.iter().map(|(job, _)| job.channel).collect::<Vec<_>>(), [2]);
    talk.hear(job(GROUP, 3, None));
    talk.open_extended(4);
    // The newest channel knows the job from its group.
    let works = talk.work(tip(GROUP, 3, 3));
    let seen: Vec<_> = works.iter().map(|(job, clean)| (job.channel, job.id, *clean)).collect();
    assert_eq!(seen, [(2, 3, true), (3, 3, true), (4, 3, true)]);
    assert_eq!(works[1].0.extranonce_size, 0);
    assert_eq!(works[1].0.extranonce_prefix, [7; 12].into());
    let (Work::Coinbase(one), Work::Coinbase(other)) = (&works[0].0.work, &works[1].0.work) else {
        panic!("{works:?}")
    };
    assert!(Arc::ptr_eq(one, other), "held once");
    talk.open_extended(5);
    let works = talk.work(job(GROUP, 4, Some(100)));
    assert_eq!(works.len(), 4, "the group's parent is the newest channel's");
}

#[test]
fn a_channel_that_moves_listens_to_its_new_group() {
    let mut talk = Talk::extended(2);
    talk.open_extended(3);
    talk.begin(GROUP);
    talk.hear(SetGroupChannel { group_channel_id: 9, channel_ids: Seq64K::new(vec![3]).unwrap() });
    assert_eq!(talk.work(job(GROUP, 5, Some(100)))[0].0.channel, 2);
    assert_eq!(talk.work(job(9, 6, Some(100)))[0].0.channel, 3);
}

#[test]
fn a_channel_without_its_first_job_is_no_reason_to_leave() {
    let mut talk = Talk::extended(2);
    talk.begin(2);
    talk.hear(job(2, 5, None));
    talk.open_extended(3);
    let works = talk.work(tip(GROUP, 5, 2));
    assert_eq!(works.iter().map(|(job, _)| job.channel).collect::<Vec<_>>(), [2]);
    assert_eq!(talk.begin(3).len(), 1);
}
