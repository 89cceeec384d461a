//! Requests at paths that no account has: which of them come from a platform, and which path is meant.

/// Names of the parameters that a platform signs a request with, in lower case.
const SIGNATURES: [&str; 3] = ["signature", "msg_signature", "sign"];

/// How much of a path is compared, and logged.
const PATH_BYTES: usize = 128;

/// Whether a query has a signature, be it that of a platform or not. It may have been escaped by a proxy on its way, once
/// too often as HTML or as a query.
pub(super) fn is_signed(query: &str) -> bool {
    let escaped = query.as_bytes().windows(3).any(|bytes| bytes.eq_ignore_ascii_case(b"%3d"));
    let unescaped;
    let query = if escaped {
        unescaped = query.to_ascii_lowercase().replace("%3d", "=").replace("%26", "&").replace("%3f", "&");
        &*unescaped
    } else {
        query
    };
    // `&amp;signature=` has its parameter behind the semicolon.
    let names = query.split(['&', ';', '?']).filter_map(|pair| pair.split_once('='));
    names.into_iter().any(|(name, _)| SIGNATURES.iter().any(|signature| name.eq_ignore_ascii_case(signature)))
}

/// The beginning of a path, as it is logged.
pub(super) fn shown(path: &str) -> &str {
    path.get(..path.floor_char_boundary(PATH_BYTES)).unwrap_or(path)
}

/// The one of these paths that is most like a path. Doubled slashes and upper case count for nothing.
pub(super) fn nearest<'p>(paths: impl Iterator<Item = &'p str>, path: &str) -> Option<&'p str> {
    let path = plain(path);
    paths.min_by_key(|known| (strsim::levenshtein(&plain(known), &path), *known))
}

/// A path without doubled slashes and upper case.
pub(super) fn plain(path: &str) -> String {
    let mut plain = shown(path).to_ascii_lowercase();
    while plain.contains("//") {
        plain = plain.replace("//", "/");
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_path_is_the_one_that_was_meant() {
        let paths = ["/mp/safe", "/mp/shop", "/wecom/sales", "/im/chat", "/callback/$APPID$/x"];
        for (path, expected) in [
            ("//mp/safe", "/mp/safe"),
            ("/MP//SAFE/", "/mp/safe"),
            ("/mp/shpo", "/mp/shop"),
            ("/wecom/typo", "/wecom/sales"),
            ("/api/im/chat", "/im/chat"),
            ("/callback/wx1/", "/callback/$APPID$/x"),
        ] {
            assert_eq!(nearest(paths.into_iter(), path), Some(expected), "{path}");
        }
        assert_eq!(nearest([].into_iter(), "/mp/safe"), None);
        // However long it is.
        assert!(nearest(paths.into_iter(), &"/é".repeat(10_000)).is_some());
    }

    #[test]
    fn signatures_are_found_however_the_query_was_escaped() {
        for query in [
            "signature=1",
            "a=1&msg_signature=",
            "SdkAppid=1&Sign=2",
            "a=1&amp;msg_signature=2",
            "timestamp%3D1%26msg_signature%3D2",
            "?signature=1",
        ] {
            assert!(is_signed(query), "{query}");
        }
        for query in ["", "a=signature", "signatures=1", "design=1", "q=sign", "%", "x%3Dsignature"] {
            assert!(!is_signed(query), "{query}");
        }
    }
}
