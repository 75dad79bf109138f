//! `supported`: what an installer asks before it changes anything.

use crate::machine::Machine;

const MODEL: &str = "sys/class/dmi/id/product_name";
const BIOS: &str = "sys/class/dmi/id/bios_version";
const MODELS: &str = "etc/labtools/models.ini";

fn machine(model: &str, bios: &str) -> Machine {
    let machine = Machine::empty();
    machine.write(MODELS, "[model.OptiPlex 7010]\nbios = A16\n[model.Any]\n");
    machine.write(MODEL, format!("{model}\n"));
    machine.write(BIOS, format!("{bios}\n"));
    machine
}

#[test]
fn a_model_of_the_list_is_supported() {
    for (model, bios) in [
        ("OptiPlex 7010", "A16"),
        ("OptiPlex 7010", "A29"),
        ("Any", "X"),
    ] {
        let ended = machine(model, bios).run(&["supported"]);
        assert_eq!(ended.status, 0, "{ended:?}");
        assert_eq!(ended.section("model")["name"], model);
    }
}

#[test]
fn other_machines_are_not_supported() {
    for (model, bios, why) in [
        (
            "OptiPlex 390",
            "A16",
            "models.ini does not list OptiPlex 390\n",
        ),
        ("", "A16", "models.ini is for it\n"),
        (
            "OptiPlex 7010",
            "A15",
            "the BIOS of this OptiPlex 7010 is A15; update it to A16 or later first\n",
        ),
    ] {
        let ended = machine(model, bios).run(&["supported"]);
        assert_eq!((ended.status, ended.stdout.as_str()), (78, ""), "{ended:?}");
        let said = &ended.stderr;
        assert!(
            said.starts_with("invcollect: checking the model: ") && said.ends_with(why),
            "{said}"
        );
    }
    let machine = machine("OptiPlex 7010", "A16");
    machine.remove(MODELS);
    machine
        .run(&["supported"])
        .refused(78, "checking the model: there is no ");
}
