//! `.env.production`, and the secrets in it.

use super::super::random;
use super::super::stand_in::cipher::Cipher;
use super::{DATABASE, DOMAIN, Login, ROLE, Side};

/// What identifies the instance, wherever it runs. Every value starts with the canary.
pub struct Secrets {
    pub key_base: String,
    pub primary_key: String,
    pub deterministic_key: String,
    pub salt: String,
    pub vapid: String,
    pub smtp: String,
}

impl Secrets {
    pub fn make() -> Self {
        let long = || format!("{}{}", random::secret(), random::hex(45));
        Secrets {
            key_base: long(),
            primary_key: random::secret(),
            deterministic_key: random::secret(),
            salt: random::secret(),
            vapid: format!("{}=", random::secret()),
            // Dotenv needs the quotes: a blank, a hash sign, a dollar.
            smtp: format!("{} #1 $x", random::secret()),
        }
    }

    pub fn cipher(&self) -> Cipher {
        Cipher::new(&self.primary_key, &self.salt, &self.key_base)
    }
}

/// The file of the old server, with what admins have in theirs: comments, quotes, blank lines, a
/// variable of an old version.
pub fn env_file(side: &Side, secrets: &Secrets) -> String {
    let database = match side.login {
        Login::Password => format!(
            "DB_HOST=127.0.0.1\nDB_PORT={}\nDB_PASS='{}'\n",
            side.postgres.port(),
            side.database_password
        ),
        Login::Peer => format!(
            "DB_HOST={}\nDB_PORT={}\nDB_PASS=\n",
            side.postgres.socket_dir().display(),
            side.postgres.port()
        ),
    };
    let Secrets { key_base, primary_key, deterministic_key, salt, vapid, smtp } = secrets;
    format!(
        "# Generated with mastodon:setup\n\n\
         LOCAL_DOMAIN={DOMAIN}\nSINGLE_USER_MODE=false\n\n\
         SECRET_KEY_BASE={key_base}\nOTP_SECRET={key_base}\n\
         ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY={deterministic_key}\n\
         ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT={salt}\n\
         ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY={primary_key}\n\n\
         VAPID_PRIVATE_KEY={vapid}\nVAPID_PUBLIC_KEY=BPublicKeyIsNoSecret=\n\n\
         # PostgreSQL\nDB_NAME={DATABASE}\nDB_USER={ROLE}\n{database}\n\
         REDIS_HOST=127.0.0.1\nREDIS_PORT={redis_port}\nREDIS_PASSWORD=\"{redis_password}\"\n\n\
         SMTP_SERVER=smtp.example\nSMTP_LOGIN=mastodon@{DOMAIN}\nSMTP_PASSWORD='{smtp}'\n\
         SMTP_FROM_ADDRESS='Sandbox <notifications@{DOMAIN}>'\n\
         export WEB_CONCURRENCY=2   # two of them\nES_ENABLED=false\nS3_ENABLED=false\n",
        redis_port = side.redis.port(),
        redis_password = side.redis.password().unwrap_or_default(),
    )
}
