//! Detects request bodies that are streams of messages, by `content-type`.

use http::{HeaderValue, Method, Request, header::CONTENT_TYPE};

/// Whether the body is a stream of gRPC or Connect messages.
///
/// Their types are `application/grpc` and `application/connect`, followed by `+` and the name of a codec,
/// which is optional for gRPC. gRPC-Web has unary requests only, so it is excluded.
///
/// Sources: gRPC over HTTP2, "Requests"; Connect Protocol Reference, "Streaming-Request".
pub(super) fn are_streamed<B>(request: &Request<B>) -> bool {
    let Some(subtype) = application(request) else {
        return false;
    };
    let end = subtype.iter().position(|byte| *byte == b';');
    let subtype = subtype[..end.unwrap_or(subtype.len())].trim_ascii_end();
    if subtype.eq_ignore_ascii_case(b"grpc") {
        return true;
    }
    [&b"grpc+"[..], b"connect+"]
        .into_iter()
        .any(|name| subtype.len() > name.len() && starts_with(subtype, name))
}

/// Whether tonic may serve the request, as any form of gRPC.
#[cfg(feature = "tonic")]
pub(super) fn may_be_grpc<B>(request: &Request<B>) -> bool {
    application(request).is_some_and(|subtype| starts_with(subtype, b"grpc"))
}

/// The part after `application/` in the content type of a POST, the only method of these protocols.
#[inline]
fn application<B>(request: &Request<B>) -> Option<&[u8]> {
    if *request.method() != Method::POST {
        return None;
    }
    let content_type = request.headers().get(CONTENT_TYPE)?;
    let name = HeaderValue::as_bytes(content_type);
    starts_with(name, PREFIX).then(|| &name[PREFIX.len()..])
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

const PREFIX: &[u8] = b"application/";

#[cfg(test)]
mod tests {
    use super::*;

    fn post(content_type: &str) -> Request<()> {
        let request = Request::post("/").header(CONTENT_TYPE, content_type);
        request.body(()).unwrap()
    }

    #[test]
    fn streams_of_messages_are_known_by_their_exact_types() {
        for streamed in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+json",
            "Application/GRPC+Thrift",
            "application/grpc; charset=utf-8",
            "application/grpc+proto ;a=b",
            "application/connect+proto",
            "application/connect+json",
        ] {
            assert!(are_streamed(&post(streamed)), "{streamed}");
            let mut get = post(streamed);
            *get.method_mut() = Method::GET;
            assert!(!are_streamed(&get), "{streamed}");
        }
        for other in [
            "application/grpcX",
            "application/grpc+",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/connect",
            "application/connect+",
            "application/connection+proto",
            "application/json",
            "application/",
            "text/grpc",
            "application/json;application/grpc",
            "",
        ] {
            assert!(!are_streamed(&post(other)), "{other}");
        }
        assert!(!are_streamed(&Request::post("/").body(()).unwrap()));
    }
}
