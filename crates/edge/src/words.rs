//! Closed sets of words, as they stand in logs and metrics.

/// An enum of such words, one a line; each has a name there, and `ALL` has them in order.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        pub enum $set:ident { $($(#[doc = $of:literal])* $name:ident = $text:literal,)* }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $set { $($(#[doc = $of])* $name,)* }

        impl $set {
            /// All of them, in the order of their discriminants.
            pub const ALL: &[$set] = &[$($set::$name,)*];

            /// Its name in logs and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

pub(crate) use words;
