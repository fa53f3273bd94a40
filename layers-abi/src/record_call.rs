//! How a trampoline records the call that it makes.

/// Records one call of a callback (or this [`Call`]) with these arguments, and makes it.
#[macro_export]
macro_rules! record_call {
    ($layer:expr, $callback:expr, $target:expr, ($($argument:ident),*)) => {
        $crate::record_call!($crate::call::Call::new($layer, $callback), $target, ($($argument),*))
    };
    ($call:expr, $target:expr, ($($argument:ident),*)) => {{
        let mut call = $call;
        $(
            // SAFETY: the server's own argument of this call.
            let $argument = ($argument, unsafe { $crate::arguments::Argument::enter($argument, &mut call) });
        )*
        $(
            // SAFETY: the same arguments, all of which have been noted.
            let $argument = ($argument.0, unsafe { $crate::arguments::Argument::lend($argument.1, &mut call) });
        )*
        call.start();
        // SAFETY: the target's own callback, with the arguments that the server passed, and its own handle.
        let result = unsafe { $target($($argument.1),*) };
        call.returned(result);
        $(
            // SAFETY: the same arguments; the target has returned.
            unsafe { $crate::arguments::Argument::exit($argument.0, &mut call) };
        )*
        call.finish();
        result
    }};
}
