use super::*;
use proptest::prelude::*;

const FAST: PackOptions = PackOptions { level: 1, workers: 0 };

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn packed(plain: &[u8], options: PackOptions) -> Vec<u8> {
    let mut out = Vec::new();
    let stats = runtime().block_on(pack(plain, &mut out, options)).unwrap();
    assert_eq!(
        stats,
        PackStats { plain_bytes: plain.len() as u64, packed_bytes: out.len() as u64 }
    );
    out
}

fn unpacked(packed: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut out = Vec::new();
    let length = runtime().block_on(unpack(packed, &mut out))?;
    assert_eq!(length, out.len() as u64);
    Ok(out)
}

/// Compressible and longer than every buffer.
fn long_text() -> Vec<u8> {
    (0..600_000u32).flat_map(|number| (number / 3).to_string().into_bytes()).collect()
}

#[test]
fn what_was_packed_by_many_threads_comes_out_the_same() {
    let plain = long_text();
    let bytes = packed(&plain, PackOptions { level: 3, workers: 2 });
    assert!(bytes.len() < plain.len() / 3);
    assert!(unpacked(&bytes).unwrap() == plain);
    assert_eq!(unpacked(&packed(b"", FAST)).unwrap(), b"");
}

#[test]
fn every_shorter_stream_is_truncated() {
    let bytes = packed(b"some text that is short", FAST);
    for end in 0..bytes.len() {
        let error = unpacked(&bytes[..end]).unwrap_err();
        assert!(matches!(error, UnpackError::Truncated { .. }), "{end}: {error}");
        assert_eq!(error.exit_code(), EXIT_TRUNCATED);
    }
    let long = packed(&long_text(), FAST);
    let error = unpacked(&long[..long.len() / 2]).unwrap_err();
    assert!(matches!(error, UnpackError::Truncated { plain_bytes } if plain_bytes > 0), "{error}");
}

#[test]
fn a_stream_with_something_after_its_end_is_refused() {
    let mut bytes = packed(b"text", FAST);
    bytes.push(0);
    let error = unpacked(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "the stream is not what was sent: something follows its end");
    assert_eq!(error.exit_code(), EXIT_CORRUPT);
}

#[test]
fn a_failed_read_leaves_no_proof_of_an_end() {
    struct Failing;
    impl AsyncRead for Failing {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }
    let mut out = Vec::new();
    let reader = (&b"the first half"[..]).chain(Failing);
    let error = runtime().block_on(pack(reader, &mut out, FAST)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(matches!(unpacked(&out), Err(UnpackError::Truncated { .. })));
}

#[test]
fn a_reader_that_closes_early_does_not_stop_the_check() {
    struct Closed;
    impl AsyncWrite for Closed {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let plain = long_text();
    let bytes = packed(&plain, FAST);
    assert_eq!(runtime().block_on(unpack(&bytes[..], Closed)).unwrap(), plain.len() as u64);
    let cut = &bytes[..bytes.len() - 1];
    assert!(matches!(runtime().block_on(unpack(cut, Closed)), Err(UnpackError::Truncated { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The law: `unpack(pack(plain)) == plain`.
    #[test]
    fn unpacking_undoes_packing(plain in prop::collection::vec(any::<u8>(), 0..5000), level in -3i32..6) {
        prop_assert_eq!(unpacked(&packed(&plain, PackOptions { level, workers: 0 })).unwrap(), plain);
    }

    /// No flipped bit goes unnoticed.
    #[test]
    fn a_changed_byte_is_noticed(
        plain in prop::collection::vec(0u8..4, 0..2000),
        place in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let mut bytes = packed(&plain, FAST);
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        if let Ok(out) = unpacked(&bytes) {
            // A bit of the frame header that says nothing about the content.
            prop_assert_eq!(out, plain);
        }
    }
}
