//! Links that are lent to zones, and come home: SPEC.md section 6.

use dlmgmt_proto::door::Subscribe;
use dlmgmt_proto::{Event, LinkRef};
use dlmgmt_tests::{Host, eventually};

#[test]
fn a_link_is_lent_and_taken_home() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone a web").ok();
    assert_eq!(host.kernel_in("web"), ["a"]);
    assert_eq!(host.everywhere()["web/a"], id);
    assert_eq!(host.field("zone,owner", "web/a"), "web:global");
    host.dladm("reset-zone web/a").ok();
    assert!(host.kernel_in("web").is_empty());
    assert_eq!(host.agreed()["a"].0, id);
}

#[test]
fn a_loan_has_the_name_inside_that_it_was_given() {
    let host = Host::with_zones(&["web"]);
    let id = host.ids()["a"];
    host.dladm("set-zone -n eth0 a web").ok();
    assert_eq!(host.kernel_in("web"), ["eth0"]);
    assert_eq!(host.everywhere()["web/eth0"], id);
    host.end_zone("web");
    assert_eq!(host.agreed()["a"].0, id);
}
