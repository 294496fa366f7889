use super::*;
use proptest::prelude::*;

fn read<T: Field>(bytes: &[u8]) -> Result<T, Malformed> {
    T::read(&mut Reader::new(bytes))
}

fn written(value: &impl Field) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

#[test]
fn dt_01_integers_are_little_endian() {
    let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(read(&bytes), Ok(0x01_u8));
    assert_eq!(read(&bytes), Ok(0x0201_u16));
    assert_eq!(read(&bytes), Ok(0x0403_0201_u32));
    assert_eq!(read(&bytes), Ok(0x0807_0605_0403_0201_u64));
    assert_eq!(written(&0x0807_0605_0403_0201_u64), bytes);
    assert_eq!(read::<u64>(&bytes[..7]), Err(Malformed("payload ends early")));
}

#[test]
fn dt_02_only_bit_0_of_a_bool_counts() {
    for (byte, value) in [(0, false), (1, true), (0xfe, false), (0xff, true), (2, false), (3, true)] {
        assert_eq!(read(&[byte]), Ok(value));
    }
    assert_eq!((written(&false), written(&true)), (vec![0], vec![1]));
}

#[test]
fn dt_03_floats_keep_every_bit() {
    assert_eq!(read(&[0, 0, 0x80, 0x3f]), Ok(1.0_f32));
    for bits in [0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0001, 0x7f80_0001, 0xffff_ffff_u32] {
        let value: f32 = read(&bits.to_le_bytes()).unwrap();
        assert_eq!(written(&value), bits.to_le_bytes(), "{bits:#x}");
    }
}

#[test]
fn dt_04_the_last_byte_of_a_number_is_the_highest() {
    let mut bytes = [0; 32];
    (bytes[0], bytes[31]) = (0xff, 0x01);
    let number = U256(bytes);
    assert_eq!(number.value(), (Number::from(1) << 248) + Number::from(255));
    assert_eq!(U256::from(number.value()), number);
    assert_eq!(format!("{number:?}"), format!("01{}ff", "00".repeat(30)));
    let target = Target::try_from(number).unwrap();
    assert_eq!((target.value(), U256::from(target)), (number.value(), number));
    // Nothing of a Target's range is lost, and what is harder is refused, not bent.
    let (easy, hard) = (Number::from(1) << 128, (Number::from(1) << 128) - Number::from(1));
    assert!(Target::try_from(U256::from(easy)).is_ok());
    assert_eq!(Target::try_from(U256::from(hard)), Err(TargetError::TooHard));
}

#[test]
fn dt_05_lengths_have_one_byte_or_two() {
    assert_eq!(read::<Str255>(b"\x03abcd").unwrap().as_bytes(), b"abc");
    assert_eq!(read::<Bytes255>(b"\x03abcd").unwrap().as_bytes(), b"abc");
    assert_eq!(read::<Bytes32>(b"\x03abcd").unwrap().as_bytes(), b"abc");
    assert_eq!(read::<Bytes64K>(b"\x03\x00abcd").unwrap().as_bytes(), b"abc");
    let long = vec![7; 0x0102];
    let mut bytes = vec![0x02, 0x01];
    bytes.extend(&long);
    assert_eq!(read::<Bytes64K>(&bytes).unwrap().into_bytes(), long);
    assert_eq!(written(&Bytes64K::new(long).unwrap()), bytes);
}

#[test]
fn dt_05_the_length_of_a_short_field_ends_at_32() {
    for length in 0..=255_u8 {
        let bytes = [&[length][..], &[9; 255]].concat();
        assert_eq!(read::<Bytes32>(&bytes).is_ok(), length <= 32, "{length}");
    }
}

#[test]
fn dt_05_short_fields_compare_by_their_bytes_alone() {
    let (a, b) = (Bytes32::from([1, 2]), Bytes32::from([1, 2, 0]));
    assert_ne!(a, b);
    assert_eq!(a, Bytes32::new(&[1, 2]).unwrap());
    assert_eq!(format!("{a:?} {b:?}"), "0102 010200");
}

#[test]
fn dt_05_what_does_not_fit_cannot_be_made() {
    assert_eq!(Bytes32::new(&[0; 33]), Err(TooLong { len: 33, max: 32 }));
    assert_eq!(Str255::new(vec![0; 256]), Err(TooLong { len: 256, max: 255 }));
    assert_eq!(Bytes255::new(vec![0; 256]), Err(TooLong { len: 256, max: 255 }));
    assert_eq!(Bytes64K::new(vec![0; 65_536]), Err(TooLong { len: 65_536, max: 65_535 }));
    assert_eq!(Seq255::new(vec![0_u8; 256]), Err(TooLong { len: 256, max: 255 }));
    assert_eq!(Seq64K::new(vec![0_u8; 65_536]), Err(TooLong { len: 65_536, max: 65_535 }));
    assert_eq!(TooLong { len: 33, max: 32 }.to_string(), "length is 33, at most 32 fit");
}

#[test]
#[should_panic(expected = "too long for STR0_255")]
fn dt_05_a_text_of_our_own_that_does_not_fit_is_a_bug() {
    const TEXT: [u8; 256] = [b'x'; 256];
    Str255::from_static(std::str::from_utf8(&TEXT).unwrap());
}

#[test]
fn dt_06_a_sequence_is_a_count_and_its_elements() {
    assert_eq!(read::<Seq255<u16>>(&[2, 1, 0, 2, 0, 9]).unwrap().as_slice(), [1, 2]);
    assert_eq!(read::<Seq64K<u16>>(&[2, 0, 1, 0, 2, 0, 9]).unwrap().into_vec(), [1, 2]);
    assert_eq!(written(&Seq64K::<u16>::new(vec![1, 2]).unwrap()), [2, 0, 1, 0, 2, 0]);
    assert_eq!(read::<Seq255<u16>>(&[0]).unwrap(), Seq::default());
}

#[test]
fn dt_06_an_option_holds_at_most_one_element() {
    assert_eq!(read::<Option<u32>>(&[0, 9]), Ok(None));
    assert_eq!(read::<Option<u32>>(&[1, 4, 3, 2, 1]), Ok(Some(0x0102_0304)));
    assert_eq!((written(&None::<u32>), written(&Some(1_u32))), (vec![0], vec![1, 1, 0, 0, 0]));
    for count in 2..=255 {
        assert!(read::<Option<u32>>(&[&[count][..], &[0; 1_020]].concat()).is_err(), "{count}");
    }
}

#[test]
fn dt_07_a_text_that_is_no_utf_8_is_read_kept_and_shown_escaped() {
    let bytes = b"\x0b\xff\n a%41~\x7f\x00\x1b";
    let text: Str255 = read(bytes).unwrap();
    assert_eq!(written(&text), bytes);
    assert_eq!(text.to_string(), "%ff%0a a%2541~%7f%00%1b");
    assert_eq!(format!("{text:?}"), "\"%ff%0a a%2541~%7f%00%1b\"");
    assert_eq!(Str255::from_static("plain"), Str255::new("plain").unwrap());
}

/// An element whose reading is a failure of the test.
#[derive(Debug, PartialEq)]
struct Untouched;

impl Field for Untouched {
    const BYTES_MIN: usize = 4;
    const BYTES_MAX: usize = 4;

    fn read(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        panic!("an element was read although they cannot all be there")
    }

    fn write(&self, _: &mut Vec<u8>) {}
}

#[test]
fn dt_08_a_count_beyond_the_bytes_left_is_refused_before_any_element() {
    let early = Malformed("payload ends early");
    assert_eq!(read::<Seq64K<Untouched>>(&[&[0xff, 0xff][..], &[0; 1_000]].concat()), Err(early));
    assert_eq!(read::<Seq255<Untouched>>(&[&[255][..], &[0; 1_019]].concat()), Err(early));
    assert_eq!(read::<Seq255<Untouched>>(&[1, 0, 0, 0]), Err(early));
    assert_eq!(read::<Bytes64K>(&[&[0xff, 0xff][..], &[0; 65_534]].concat()), Err(early));
    assert_eq!(read::<Str255>(&[1]), Err(early));
    assert_eq!(read::<Bytes255>(&[]), Err(early));
}

#[test]
fn n03_what_is_malformed_ends_the_session_with_its_reason() {
    assert_eq!(Fault::from(Malformed("reason")), Fault::Malformed("reason"));
    assert_eq!(Malformed("reason").to_string(), Fault::Malformed("reason").to_string());
}

proptest! {
    #[test]
    fn dt_07_no_two_texts_look_alike(a: Vec<u8>, b: Vec<u8>) {
        let shown = |text: &[u8]| Str255::new(text.to_vec()).unwrap().to_string();
        let (a, b) = (&a[..a.len().min(255)], &b[..b.len().min(255)]);
        prop_assert_eq!(a == b, shown(a) == shown(b));
        prop_assert!(shown(a).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
}
