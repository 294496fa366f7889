//! Random values of every data type, for tests.

use super::{Blob, Bytes32, Field, Seq, Str255, U256};
use proptest::prelude::*;
use proptest::test_runner::TestRng;

/// How long what is drawn is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As short as the type allows.
    Min,
    /// As long as the type allows.
    Max,
    /// Mostly short, sometimes at a limit.
    Any,
}

pub struct Source<'a> {
    pub rng: &'a mut TestRng,
    pub length: Length,
}

impl Source<'_> {
    fn length(&mut self, max: usize) -> usize {
        match self.length {
            Length::Min => 0,
            Length::Max => max,
            Length::Any => match self.rng.next_u32() % 16 {
                0 => 0,
                1 if max <= 255 => max,
                2 => max.min(300),
                _ => self.rng.next_u32() as usize % (max + 1).min(40),
            },
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

pub trait Draw {
    fn draw(source: &mut Source<'_>) -> Self;
}

macro_rules! draw_numbers {
    ($($number:ty)*) => {$(
        impl Draw for $number {
            fn draw(source: &mut Source<'_>) -> Self {
                source.rng.next_u64() as $number
            }
        }
    )*};
}
draw_numbers!(u8 u16 u32 u64);

impl Draw for f32 {
    fn draw(source: &mut Source<'_>) -> Self {
        let any = f32::from_bits(source.rng.next_u32());
        // NaN is no equal of itself; its bits have a test of their own.
        if any.is_nan() { 0.0 } else { any }
    }
}

impl Draw for bool {
    fn draw(source: &mut Source<'_>) -> Self {
        source.rng.next_u32() & 1 == 1
    }
}

impl<T: Draw> Draw for Option<T> {
    fn draw(source: &mut Source<'_>) -> Self {
        (source.length(1) == 1).then(|| T::draw(source))
    }
}

impl Draw for U256 {
    fn draw(source: &mut Source<'_>) -> Self {
        let mut bytes = [0; 32];
        source.rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl Draw for Bytes32 {
    fn draw(source: &mut Source<'_>) -> Self {
        let len = source.length(Self::MAX);
        Self::new(&source.bytes(len)).unwrap()
    }
}

impl<const MAX: usize> Draw for Blob<MAX> {
    fn draw(source: &mut Source<'_>) -> Self {
        let len = source.length(MAX);
        Self::new(source.bytes(len)).unwrap()
    }
}

impl Draw for Str255 {
    fn draw(source: &mut Source<'_>) -> Self {
        let len = source.length(255);
        Self::new(source.bytes(len)).unwrap()
    }
}

impl<T: Draw + Field, const MAX: usize> Draw for Seq<T, MAX> {
    fn draw(source: &mut Source<'_>) -> Self {
        let len = source.length(MAX);
        Self::new((0..len).map(|_| T::draw(source)).collect()).unwrap()
    }
}

/// A random source that starts anew with each case.
pub fn any_rng() -> impl Strategy<Value = TestRng> {
    Just(()).prop_perturb(|(), rng| rng)
}
