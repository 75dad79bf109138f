//! What Prometheus says, when it is not there or says nonsense; what a real one says is in laboratory/fleet.rs.

use serde_json::Value;

use crate::store::Store;
use crate::{WEEK, run};

#[test]
fn the_rest_is_as_good_without_prometheus() {
    let store = Store::new();
    let output = run(&store, &[&WEEK[..], &["--prometheus", "http://127.0.0.1:1"]].concat());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && errors.starts_with("invcollect: asking http://127.0.0.1:1/api/v1/query_range: "),
        "{errors}"
    );
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    let missing: Vec<_> =
        fleet["fleet"]["missing"].as_array().unwrap().iter().map(|missing| missing["key"].as_str().unwrap()).collect();
    assert_eq!(missing, ["machines", "traffic"]);
}
