//! What a server that is alone, without modules, scripts or users, answers to the commands of those.

use crate::server::resp::call::Call;
use crate::server::resp::failure::{Failure, NOT_AN_INTEGER, fixed};
use crate::server::resp::number::parse_i64;

type Done = Result<(), Failure>;

pub(crate) fn no_cluster(_call: &mut Call<'_, '_>) -> Done {
    Err(fixed("ERR This instance has cluster support disabled"))
}

pub(crate) fn replicaof(call: &mut Call<'_, '_>) -> Done {
    if call.word(1).as_str() == "no" && call.word(2).as_str() == "one" {
        call.out.ok();
        return Ok(());
    }
    parse_i64(call.args.at(2)).ok_or(NOT_AN_INTEGER)?;
    Err(fixed("ERR replication is not supported"))
}

pub(crate) fn no_replication(_call: &mut Call<'_, '_>) -> Done {
    Err(fixed("ERR replication is not supported"))
}

pub(crate) fn module_list(call: &mut Call<'_, '_>) -> Done {
    call.out.array(0);
    Ok(())
}

pub(crate) fn no_modules(_call: &mut Call<'_, '_>) -> Done {
    Err(fixed(
        "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can run it from a local \
         connection, otherwise you need to set this option in the configuration file, and then restart the server.",
    ))
}

pub(crate) fn acl_whoami(call: &mut Call<'_, '_>) -> Done {
    call.out.text("default");
    Ok(())
}

pub(crate) fn acl_users(call: &mut Call<'_, '_>) -> Done {
    call.out.array(1);
    call.out.text("default");
    Ok(())
}

pub(crate) fn no_acl(_call: &mut Call<'_, '_>) -> Done {
    Err(fixed("ERR users other than default are not supported"))
}
