//! The rules of the contract, each applied in one line.

use std::sync::LazyLock;

use super::Stage;

/// A stage, or several, in [`contract!`](crate::contract).
pub trait Stages {
    /// All of them.
    fn stages(&self) -> &[Stage];
}

impl Stages for Stage {
    fn stages(&self) -> &[Stage] {
        std::slice::from_ref(self)
    }
}

impl<const N: usize> Stages for [Stage; N] {
    fn stages(&self) -> &[Stage] {
        self
    }
}

impl<T: Stages> Stages for LazyLock<T> {
    fn stages(&self) -> &[Stage] {
        T::stages(self)
    }
}

/// Makes a test of each rule of the contract. A rule names its stages, or gives the reason why
/// there are none; a missing rule does not compile.
///
/// ```text
/// jsonpipe::contract! {
///     teaches_help: [CLONE, LIST],
///     passes_a_no_on: [CLONE => r#"{"login":{"authenticated":false}}"#],
///     keeps_the_secret: "the password is another tool's",
///     …
/// }
/// ```
#[macro_export]
macro_rules! contract {
    (
        teaches_help: $teaches_help:tt,
        tells_version: $tells_version:tt,
        refuses_a_bad_flag: $refuses_a_bad_flag:tt,
        logs_its_run: $logs_its_run:tt,
        needs_a_document: $needs_a_document:tt,
        names_an_unknown_key: $names_an_unknown_key:tt,
        passes_foreign_sections_on: $passes_foreign_sections_on:tt,
        is_silent_when_its_reader_left: $is_silent_when_its_reader_left:tt,
        reports_a_full_output: $reports_a_full_output:tt,
        passes_a_no_on: $passes_a_no_on:tt,
        reads_ini_as_json: $reads_ini_as_json:tt,
        keeps_the_secret: $keeps_the_secret:tt,
        refuses_the_secret: $refuses_the_secret:tt,
        survives_its_own_panic: $survives_its_own_panic:tt,
        names_every_flag_on_its_page: $names_every_flag_on_its_page:tt $(,)?
    ) => {
        $crate::contract!(@ teaches_help $teaches_help);
        $crate::contract!(@ tells_version $tells_version);
        $crate::contract!(@ refuses_a_bad_flag $refuses_a_bad_flag);
        $crate::contract!(@ logs_its_run $logs_its_run);
        $crate::contract!(@ needs_a_document $needs_a_document);
        $crate::contract!(@ names_an_unknown_key $names_an_unknown_key);
        $crate::contract!(@ passes_foreign_sections_on $passes_foreign_sections_on);
        $crate::contract!(@ is_silent_when_its_reader_left $is_silent_when_its_reader_left);
        $crate::contract!(@ reports_a_full_output $reports_a_full_output);
        $crate::contract!(@ passes_a_no_on $passes_a_no_on);
        $crate::contract!(@ reads_ini_as_json $reads_ini_as_json);
        $crate::contract!(@ keeps_the_secret $keeps_the_secret);
        $crate::contract!(@ refuses_the_secret $refuses_the_secret);
        #[cfg(debug_assertions)]
        $crate::contract!(@ survives_its_own_panic $survives_its_own_panic);
        #[test]
        fn names_every_flag_on_its_page() {
            let (command, page) = $names_every_flag_on_its_page;
            $crate::testkit::man_page_names_every_flag(&command, &page);
        }
        #[test]
        fn help_fits_a_terminal() {
            let (command, _) = $names_every_flag_on_its_page;
            $crate::testkit::help_fits_a_terminal(command);
        }
    };
    (@ $rule:ident $why_not:literal) => {};
    (@ $rule:ident [$($stages:expr => $input:expr),+ $(,)?]) => {
        #[test]
        fn $rule() {
            $(for stage in $crate::testkit::Stages::stages(&$stages) {
                eprintln!("{:?}", stage.arguments);
                stage.$rule($input);
            })+
        }
    };
    (@ $rule:ident [$($stages:expr),+ $(,)?]) => {
        #[test]
        fn $rule() {
            $(for stage in $crate::testkit::Stages::stages(&$stages) {
                eprintln!("{:?}", stage.arguments);
                stage.$rule();
            })+
        }
    };
}
