//! Trampolines by number: the server's callbacks have no argument that tells which of them is called, so each keyword and
//! each applet gets functions of its own, instances of generic ones.

/// Functions in a row.
pub(crate) const ROW: usize = 16;

/// A constant `NAME: [T; 16 * rows]` of the instances `$function::<0>` to `$function::<N - 1>`, through `$holder`, a type
/// that holds one row.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident, $holder:ident, $function:ident: $type:ty; $($row:literal)*) => {
        struct $holder<const R: usize>;

        impl<const R: usize> $holder<R> {
            const ROW: [$type; $crate::trampoline_table::ROW] = [
                $function::<R, 0>, $function::<R, 1>, $function::<R, 2>, $function::<R, 3>,
                $function::<R, 4>, $function::<R, 5>, $function::<R, 6>, $function::<R, 7>,
                $function::<R, 8>, $function::<R, 9>, $function::<R, 10>, $function::<R, 11>,
                $function::<R, 12>, $function::<R, 13>, $function::<R, 14>, $function::<R, 15>,
            ];
        }

        $(#[$doc])*
        static $name: &[[$type; $crate::trampoline_table::ROW]] = &[$($holder::<$row>::ROW),*];
    };
}

pub(crate) use table;

/// The n-th function of a table.
pub(crate) fn nth<T: Copy>(table: &[[T; ROW]], number: usize) -> Option<T> {
    table.get(number / ROW)?.get(number % ROW).copied()
}
