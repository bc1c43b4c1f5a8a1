use std::path::Path;

use super::*;

/// A home directory with a configuration file.
struct Home(tempfile::TempDir);

impl Home {
    fn with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".ssh")).unwrap();
        std::fs::write(dir.path().join(".ssh/config"), config).unwrap();
        Home(dir)
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.0.path().join(rest)
    }

    fn plan(&self, destination: &str, options: &[(&str, &str)]) -> Result<RoutePlan, RouteError> {
        let home = self.0.path().to_owned();
        let options = Options {
            options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            surroundings: Surroundings { user: "me".into(), home, agent: Some("/agent".into()) },
            config_file: Some(self.path(".ssh/config")),
            identity: None,
        };
        plan(&destination.parse().unwrap(), &options)
    }
}

fn summary(plan: &RoutePlan) -> Vec<String> {
    plan.hops.iter().map(|hop| format!("{}@{}:{}", hop.user, hop.host, hop.port)).collect()
}

#[test]
fn without_any_configuration_the_usual_places_are_used() {
    let home = Home::with("");
    let plan = home.plan("New", &[]).unwrap();
    let hop = &plan.hops[0];
    assert_eq!(summary(&plan), ["me@New:22"]);
    assert_eq!(hop.usual_identities[0], home.path(".ssh/id_ed25519"));
    assert_eq!(hop.user_known_hosts[0], home.path(".ssh/known_hosts"));
    assert_eq!(
        (hop.record_name.as_str(), hop.agent.as_deref()),
        ("new", Some(Path::new("/agent")))
    );
}

#[test]
fn the_operator_outranks_the_destination_alias_and_the_file() {
    let home = Home::with(
        "Host new\n HostName %h.example.com\n User root\n Port 2200\n IdentityFile ~/.ssh/%r-%h\n \
         UserKnownHostsFile %d/kh none\n IdentityAgent none\n StrictHostKeyChecking no\n",
    );
    let plan = home.plan("admin@new", &[("port", "2022"), ("ConnectTimeout", "5")]).unwrap();
    let hop = &plan.hops[0];
    assert_eq!(summary(&plan), ["admin@new.example.com:2022"]);
    assert_eq!(hop.identities, [home.path(".ssh/admin-new.example.com")]);
    assert!(hop.usual_identities.is_empty());
    assert_eq!(hop.record_name, "[new.example.com]:2022");
    assert_eq!(hop.user_known_hosts, [home.path("kh")]);
    assert_eq!(hop.agent, None);
    assert_eq!(hop.connect_timeout, Duration::from_secs(5));
}

#[test]
fn jumps_come_first_each_with_its_own_configuration() {
    let home = Home::with(
        "Host new\n ProxyJump admin@edge:2222,inner\nHost inner\n User deep\n ProxyJump ignored\n\
         Host edge\n ProxyJump outer\nHost *\n User root\n",
    );
    let hops = summary(&home.plan("new", &[]).unwrap());
    assert_eq!(hops, ["root@outer:22", "admin@edge:2222", "deep@inner:22", "root@new:22"]);
    let direct = home.plan("new", &[("ProxyJump", "none")]).unwrap();
    assert_eq!(summary(&direct), ["root@new:22"]);
}

#[test]
fn what_would_be_unsafe_or_not_done_is_refused() {
    let home = Home::with("Host new\n ProxyCommand nc %h %p\nHost loop\n ProxyJump loop\n");
    let message = |destination: &str, options: &[(&str, &str)]| {
        home.plan(destination, options).unwrap_err().to_string()
    };
    assert_eq!(
        message("x", &[("stricthostkeychecking", "accept-new")]),
        "StrictHostKeyChecking=accept-new is refused: host keys are always verified"
    );
    assert_eq!(message("x", &[("Foo", "1")]), "Foo is not an SSH option that transhume knows");
    assert!(message("new", &[]).contains("ProxyCommand (`nc %h %p`)"));
    assert!(message("loop", &[]).contains("more than 8 machines"));
    assert_eq!(
        message("x", &[("IdentityFile", "~/%C")]),
        "`%C` in IdentityFile ~/%C is not supported"
    );
    assert_eq!(summary(&home.plan("new", &[("ProxyCommand", "none")]).unwrap()), ["me@new:22"]);
}
