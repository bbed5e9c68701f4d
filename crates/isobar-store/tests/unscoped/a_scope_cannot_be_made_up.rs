use isobar_auth::TeamScope;
use isobar_model::TeamId;

fn main() {
    let _ = TeamScope { team: TeamId(1) };
    let _ = TeamScope::new(TeamId(1));
    let _ = TeamScope::default();
}
