//! The ordinary `kubectl` against the server, where it is installed.

use crate::server::{ADMIN, Lab};
use apiserver::{Config, Tls};
use identity::{Issuer, KeyKind};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

struct Kubectl {
    lab: Lab,
    home: tempfile::TempDir,
}

impl Kubectl {
    /// None where it is not installed.
    async fn start() -> Option<Self> {
        Command::new("kubectl").args(["version", "--client"]).output().await.ok()?;
        let home = tempfile::tempdir().unwrap();
        let (now, hour) = (jiff::Timestamp::now(), Duration::from_secs(3600));
        let issuer = Issuer::self_signed("test", KeyKind::EcdsaP256, now).unwrap();
        let server = issuer.server_certificate(&[], &[[127, 0, 0, 1].into()], hour, now).unwrap();
        let client = issuer.client_certificate("root", &["system:masters".into()], hour, now).unwrap();
        for (name, text) in [("ca", &issuer.roots_pem()), ("crt", &client.chain), ("key", &client.key)] {
            std::fs::write(home.path().join(name), text).unwrap();
        }
        let tls = Tls { certificate: server.chain, key: server.key, client_ca: issuer.roots_pem() };
        let lab = Lab::start_with(Config { tls: Some(tls), ..Config::default() }).await;
        Some(Self { lab, home })
    }

    async fn run(&self, arguments: &str, input: &str) -> Result<String, String> {
        self.run_as(&self.certificate(), arguments, input).await
    }

    fn file(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    fn certificate(&self) -> [String; 2] {
        [format!("--client-certificate={}", self.file("crt")), format!("--client-key={}", self.file("key"))]
    }

    async fn run_as(&self, credentials: &[String], arguments: &str, input: &str) -> Result<String, String> {
        let mut child = Command::new("kubectl")
            .arg(format!("--server=https://{}", self.lab.address))
            .arg(format!("--certificate-authority={}", self.file("ca")))
            .args(credentials)
            .args(arguments.split(' '))
            .env("HOME", self.home.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    async fn ok(&self, arguments: &str) -> String {
        self.run(arguments, "").await.unwrap_or_else(|error| panic!("kubectl {arguments}: {error}"))
    }
}

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: ambit.local/app, ports: [{containerPort: 8080}]}]}
";

#[tokio::test]
async fn a_deployment_is_applied_changed_and_shown() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let apply = "apply -f -";
    assert_eq!(kubectl.run(apply, DEPLOYMENT).await.unwrap(), "deployment.apps/web created\n");
    assert_eq!(kubectl.run(apply, DEPLOYMENT).await.unwrap(), "deployment.apps/web unchanged\n");
    kubectl.ok("scale deployment web --replicas=5").await;
    kubectl.ok("set image deployment/web web=ambit.local/app:v2").await;
    kubectl.ok("rollout restart deployment web").await;
    kubectl.ok("label deployment web tier=front").await;
    kubectl.ok("annotate deployment web note=x").await;
    kubectl.ok("patch deployment web -p {\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"web\",\"args\":[\"a\"]}]}}}}").await;
    kubectl.ok("patch deployment web --type=merge -p {\"spec\":{\"paused\":true}}").await;
    kubectl.ok("patch deployment web --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/paused\"}]").await;
    let wide = kubectl.ok("get deployments -o wide").await;
    assert!(wide.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE"), "{wide}");
    assert!(wide.contains("ambit.local/app:v2") && wide.contains("0/5"), "{wide}");
    let described = kubectl.ok("describe deployment web").await;
    assert!(described.contains("Image:      ambit.local/app:v2") && described.contains("Args:"), "{described}");
    let back = kubectl.run(apply, DEPLOYMENT).await.unwrap();
    assert_eq!(back, "deployment.apps/web configured\n");
    assert_eq!(kubectl.ok("get deployment web -o jsonpath={.spec.replicas}").await, "2");
    kubectl.ok("delete deployment web").await;
    let gone = kubectl.run("get deployment web", "").await.unwrap_err();
    assert_eq!(gone, "Error from server (NotFound): deployments.apps \"web\" not found\n");
}

#[tokio::test]
async fn typed_objects_are_created_in_binary_form() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create configmap c --from-literal=a=b").await;
    kubectl.ok("create secret generic s --from-literal=p=q").await;
    kubectl.ok("create deployment d --image=ambit.local/app --replicas=0 --port=80").await;
    kubectl.ok("create service clusterip d --tcp=80:8080").await;
    kubectl.ok("create serviceaccount sa").await;
    kubectl.ok("create role r --verb=get --resource=pods").await;
    kubectl.ok("create rolebinding b --role=r --serviceaccount=default:sa").await;
    assert_eq!(kubectl.ok("get configmap c -o jsonpath={.data.a}").await, "b");
    assert_eq!(kubectl.ok("get secret s -o jsonpath={.data.p}").await, "cQ==");
    assert_eq!(kubectl.ok("get deployment d -o jsonpath={.spec.replicas}").await, "0");
    assert_eq!(kubectl.ok("auth can-i get pods --as=system:serviceaccount:default:sa").await, "yes\n");
    assert!(kubectl.ok("create token sa").await.starts_with("ey"));
}

#[tokio::test]
async fn server_side_apply_finds_conflicts() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let apply = |manager: &str, more: &str| format!("apply --server-side --field-manager={manager}{more} -f -");
    kubectl.run(&apply("one", ""), DEPLOYMENT).await.unwrap();
    let other = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
    let refused = kubectl.run(&apply("two", ""), &other).await.unwrap_err();
    assert!(
        refused.contains("Apply failed with 1 conflict: conflict with \"one\" using apps/v1: .spec.replicas"),
        "{refused}"
    );
    kubectl.run(&apply("two", " --force-conflicts"), &other).await.unwrap();
    assert_eq!(kubectl.ok("get deployment web -o jsonpath={.spec.replicas}").await, "3");
}

#[tokio::test]
async fn certificates_and_tokens_name_the_caller() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let who = "auth whoami -o jsonpath={.status.userInfo.username}";
    assert_eq!(kubectl.ok(who).await, "root");
    assert_eq!(kubectl.run_as(&[format!("--token={ADMIN}")], who, "").await.unwrap(), "admin");
    kubectl.ok("create serviceaccount sa").await;
    let token = kubectl.ok("create token sa").await;
    let account = kubectl.run_as(&[format!("--token={}", token.trim())], who, "").await.unwrap();
    assert_eq!(account, "system:serviceaccount:default:sa");
}

#[tokio::test]
async fn mistakes_are_told() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let typo = DEPLOYMENT.replace("replicas", "replica");
    let refused = kubectl.run("apply -f -", &typo).await.unwrap_err();
    assert!(refused.contains("unknown field \"spec.replica\""), "{refused}");
    let unserved = kubectl.run("create job j --image=x", "").await.unwrap_err();
    assert!(unserved.contains("jobs.batch are not served here yet"), "{unserved}");
    assert!(kubectl.ok("api-resources").await.contains("deployments"));
    assert!(kubectl.ok("explain deployment.spec.strategy").await.contains("rollingUpdate"));
    assert_eq!(
        kubectl.ok("wait --for=jsonpath={.status.phase}=Active namespace/default --timeout=5s").await,
        "namespace/default condition met\n"
    );
}
