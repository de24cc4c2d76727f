//! Counters of what happened in a world.

/// Defines a report's counters and their sum in one place.
macro_rules! report {
    ($(#[$about:meta])* $report:ident: $($(#[$doc:meta])* $counter:ident),* $(,)?) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $report {
            $($(#[$doc])* pub $counter: u64,)*
        }

        impl $report {
            /// Adds what happened in another world.
            pub fn add(&mut self, other: &Self) {
                $(self.$counter += other.$counter;)*
            }

            /// Every counter with its name.
            pub fn counters(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($counter), self.$counter)),*]
            }
        }
    };
}

pub(crate) use report;
