//! The calls about the properties of links, which are not properties of D-Bus objects: what they
//! are depends on the link, and they are set several at a time.

use std::collections::{BTreeMap, HashMap};

use dlmgmt_proto::LinkRef;
use dlmgmt_proto::door::{ListProperties, ResetProperties, SetProperties};
use dlmgmt_proto::property::{Assignment, PropertyInfo};
use zbus::Variant;

use super::arguments::Options;
use super::calls::{Answer, Given, seq};
use super::{Call, Face};

impl Face {
    pub(super) async fn list_properties(
        &self,
        call: &Call<'_>,
        link: LinkRef,
        names: Vec<String>,
    ) -> Answer {
        let asked = ListProperties { link, names };
        let found = self.parts.service.list_properties(&call.caller, asked).await?;
        call.reply(&found.into_iter().map(told).collect::<Vec<_>>())
    }

    pub(super) async fn set_properties(
        &self,
        call: &Call<'_>,
        link: LinkRef,
        values: HashMap<String, String>,
        options: Given,
    ) -> Answer {
        let mut options = Options::new(options);
        let assignment = |(property, value)| Assignment { property, value };
        let values = values.into_iter().map(assignment).collect();
        let wish = SetProperties { link, values, temporary: options.flag("temporary")? };
        options.finish()?;
        seq(call, self.parts.service.set_properties(&call.caller, wish).await?.seq)
    }

    pub(super) async fn reset_properties(
        &self,
        call: &Call<'_>,
        link: LinkRef,
        names: Vec<String>,
        options: Given,
    ) -> Answer {
        let mut options = Options::new(options);
        let wish = ResetProperties { link, names, temporary: options.flag("temporary")? };
        options.finish()?;
        seq(call, self.parts.service.reset_properties(&call.caller, wish).await?.seq)
    }
}

fn told(info: PropertyInfo) -> (String, BTreeMap<&'static str, Variant<'static>>) {
    let texts = [
        ("Value", info.value),
        ("Effective", info.effective),
        ("Default", info.default),
        ("Possible", info.possible),
    ];
    let there = texts.into_iter().filter_map(|(name, text)| Some((name, Variant::from(text?))));
    let writable = ("Writable", Variant::Bool(info.is_writable));
    (info.name, there.chain([writable]).collect())
}
