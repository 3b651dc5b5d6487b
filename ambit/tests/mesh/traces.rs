//! Whatever ends a mesh, nothing of it is left.

use crate::{AMBIT, run};
use anyhow::{Result, bail};
use testkit::{Traces, World, process, unique_name, until};

async fn gone(world: &World, before: &Traces, pids: &[i32]) -> Result<()> {
    until("everything to be gone", async || {
        if let Some(pid) = pids.iter().find(|pid| process::is_alive(**pid)) {
            bail!("process {pid} still runs");
        }
        match Traces::of(&world.name, AMBIT).beyond(before).as_slice() {
            [] => Ok(()),
            left => bail!("left behind: {left:?}"),
        }
    })
    .await
}

fn pids(world: &World) -> Result<Vec<i32>> {
    Ok(process::family(world.pid()?).iter().map(|process| process.pid).collect())
}

#[test]
fn mesh_down_leaves_nothing() {
    run(async {
        let name = unique_name();
        let before = Traces::of(&name, AMBIT);
        let world = World::up_named(AMBIT, &name).await?;
        let pids = pids(&world)?;
        assert!(pids.len() > 10, "a mesh is more than {} processes", pids.len());
        world.down()?;
        gone(&world, &before, &pids).await
    });
}

#[test]
fn mesh_killed_leaves_nothing_and_can_be_started_again() {
    run(async {
        let name = unique_name();
        let before = Traces::of(&name, AMBIT);
        let world = World::up_named(AMBIT, &name).await?;
        let pids = pids(&world)?;
        process::kill(world.pid()?);
        gone(&world, &before, &pids).await?;
        let again = World::up_named(AMBIT, &name).await?;
        again.ready("istio-system", 7).await?;
        Ok(())
    });
}

#[test]
fn mesh_of_the_same_name_is_refused_while_one_runs() {
    run(async {
        let world = World::up(AMBIT).await?;
        let second = World::up_named(AMBIT, &world.name).await;
        let told = second.err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(told.contains(&world.name), "{told}");
        world.ready("istio-system", 7).await?;
        Ok(())
    });
}
