//! Bytes as a network delivers them: in pieces of any size.

/// Takes the sizes of the pieces from the input's first byte on: that byte says how many there are.
pub fn split_off_sizes(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((count, rest)) = data.split_first() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(*count % 8).min(rest.len()))
}

/// The bytes in pieces of these sizes, again and again; all in one if there are none.
pub fn cut<'a>(mut bytes: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = sizes
            .next()
            .map_or(bytes.len(), |size| usize::from(*size).max(1));
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
