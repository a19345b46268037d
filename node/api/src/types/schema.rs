//! Texts that mean something, as the document of the API describes them: by a pattern where one says it
//! all, by a format of our own where none does.
//!
//! The types here are only their descriptions; what requests hold is read by the types that the
//! descriptions are of.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, SchemaFormat, Type, schema::SchemaType},
};

use super::AbsolutePath;

impl PartialSchema for AbsolutePath {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        let text = text.pattern(Some("^/")).description(Some(
            "A path that means the same in every process: one from the root of the file system",
        ));
        text.into()
    }
}

impl ToSchema for AbsolutePath {
    fn name() -> Cow<'static, str> {
        "AbsolutePath".into()
    }
}

/// Describes a text of a format that has no pattern.
macro_rules! formats {
    ($($kind:ident, $format:literal, $description:literal;)*) => {$(
        #[doc = $description]
        pub(super) struct $kind;

        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
                let text = text.format(Some(SchemaFormat::Custom($format.to_owned())));
                text.description(Some($description)).into()
            }
        }

        impl ToSchema for $kind {
            fn name() -> Cow<'static, str> {
                stringify!($kind).into()
            }
        }
    )*};
}

formats! {
    LinkText, "link", "A link, or the address of a root: `shoal:S…`, `bafy…`";
    NameText, "name", "A name as a file may have one: at most 255 bytes of UTF-8, without `/` and control characters";
    Address, "multiaddr", "An address as libp2p writes it: `/ip4/192.0.2.7/tcp/4101/p2p/12D3Koo…`";
    RateText, "rate", "Bytes or bits per second as people write them: `20mbit`, `5MB/s`, `off`; at least `8kB/s`";
    SizeText, "size", "Bytes as people write them: `500GB`, `off`";
}
