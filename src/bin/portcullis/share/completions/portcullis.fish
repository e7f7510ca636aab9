# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_portcullis_global_optspecs
    string join \n h/help V/version
end

function __fish_portcullis_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_portcullis_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_portcullis_using_subcommand
    set -l cmd (__fish_portcullis_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c portcullis -n "__fish_portcullis_needs_command" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_needs_command" -s V -l version -d 'Print version'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "demo" -d 'Shows a gate before services of its own, in memory: TLS, routing by name, limits, health'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "run" -d 'Runs the listeners of a configuration file until SIGTERM or Ctrl-C'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "check" -d 'Prints every problem of a configuration file, with line and column'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "plan" -d 'Prints what a reload of a configuration file would do, key by key'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "explain" -d 'Prints what would become of a client, guard by guard, and which rule decides'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "forward" -d 'Forwards one listener to one or more servers, without a file'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "ctl" -d 'Shows and changes a running program, through its admin interface'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "echo" -d 'Sends back what it receives'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "daytime" -d 'Sends the time and closes (RFC 867)'
complete -c portcullis -n "__fish_portcullis_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c portcullis -n "__fish_portcullis_using_subcommand demo" -l print -d 'Prints the configuration instead, as a start for a file'
complete -c portcullis -n "__fish_portcullis_using_subcommand demo" -l load -d 'Makes gentle traffic'
complete -c portcullis -n "__fish_portcullis_using_subcommand demo" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand run" -s c -l config -d 'The configuration file' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand run" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand check" -s c -l config -d 'The configuration file, or - for the standard input' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand check" -l at -d 'Also reports certificates that end until then, such as now+14d' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand check" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand plan" -s c -l config -d 'The new configuration file. The running process reads it as if it stood in the place of its own' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand plan" -l old -d 'The file to compare with, instead of the running process' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand plan" -l admin -d 'The admin interface of the running process; by default that of the new file' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand plan" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand plan" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand plan" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -s c -l config -d 'The configuration file' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -l listener -d 'The listener that the client connects to' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -l from -d 'The client\'s address' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -l name -d 'The host name that it requests over TLS' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -l alpn -d 'A protocol that it offers over TLS (ALPN), such as h2; may be repeated' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -l protocol -d 'What it speaks, as in `listener.route.protocol`' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -l cert -d 'The certificate that it shows, in PEM, with those that have signed it' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -l proxy -d 'The proxy through which it connects, which sends a PROXY header' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -l direct -d 'It connects without a proxy to a listener that reads PROXY headers'
complete -c portcullis -n "__fish_portcullis_using_subcommand explain" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand forward" -l chain -d 'Terminates TLS with this chain, in PEM' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand forward" -l key -d 'The private key of the chain, in PEM' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand forward" -l allow -d 'Networks that may connect; all by default' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand forward" -l proxy-protocol -d 'Sends the client\'s address in a PROXY header of this version' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand forward" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "status" -d 'Shows the program as a whole'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "ready" -d 'Ends with 0 if the program should get connections, else says why not and ends with 1'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "listeners" -d 'Lists the listeners, or changes one'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "connections" -d 'Lists the connections that are open'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "close" -d 'Closes one connection, or all that a filter names'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "endings" -d 'Lists the connections that have ended last, and why'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "backends" -d 'Lists the backends and their servers, or changes a server'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "certificates" -d 'Lists the certificates that listeners show'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "explain" -d 'Prints what would become of a client now, guard by guard, and which rule decides'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "reload" -d 'Reads the configuration file again'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "log-level" -d 'Changes the level of the log, until the configuration changes it or the program ends; an upgrade keeps it'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "drain" -d 'Shuts the program down gracefully'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and not __fish_seen_subcommand_from status ready listeners connections close endings backends certificates explain reload log-level drain help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from status" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from status" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from status" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from status" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from status" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from status" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from ready" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from ready" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from ready" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from ready" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from ready" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from ready" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from ready" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -f -a "pause" -d 'Leaves new connections in the kernel\'s queue'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -f -a "resume" -d 'Accepts again'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -f -a "limit" -d 'Sets how many connections may be open, until the next reload; an upgrade keeps it'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from listeners" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l listener -d 'Those of this listener' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l peer -d 'Those of clients in this network, or with this address' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l name -d 'Those whose requested host name contains this text' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l route -d 'Those that this route took, such as "route shop.example"' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l backend -d 'Those to this backend' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l server -d 'Those to this server' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l search -d 'Those in which any column contains this text' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l phase -d 'Those in this phase, such as handshake or serving' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l older -d 'Those that are open for at least this time, such as 30s, 10m or 1h; a number alone is in seconds' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l limit -d 'How many are shown, up to 500' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from connections" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l listener -d 'Those of this listener' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l peer -d 'Those of clients in this network, or with this address' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l name -d 'Those whose requested host name contains this text' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l route -d 'Those that this route took, such as "route shop.example"' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l backend -d 'Those to this backend' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l server -d 'Those to this server' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l search -d 'Those in which any column contains this text' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l phase -d 'Those in this phase, such as handshake or serving' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l older -d 'Those that are open for at least this time, such as 30s, 10m or 1h; a number alone is in seconds' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l all -d 'Closes all connections'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l dry-run -d 'Counts them, and closes none'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l reset -d 'Resets them, without a graceful close'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from close" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l listener -d 'Those of this listener' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l peer -d 'Those of clients in this network, or with this address' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l name -d 'Those whose requested host name contains this text' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l route -d 'Those that this route took, such as "route shop.example"' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l backend -d 'Those to this backend' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l server -d 'Those to this server' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l search -d 'Those in which any column contains this text' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l outcome -d 'Those with this outcome, such as timed_out or refused' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l since -d 'Those that have ended within this time, such as 30s, 10m or 1h' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l limit -d 'How many are shown, up to 1,000' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from endings" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -f -a "drain" -d 'Gives a server no new connections; it keeps those that it has'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -f -a "undrain" -d 'Uses a drained server again'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -f -a "down" -d 'Takes a server out of use like one whose checks fail'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -f -a "auto" -d 'Uses a server as its checks allow'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from backends" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from certificates" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from certificates" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from certificates" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from certificates" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from certificates" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from certificates" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from certificates" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l listener -d 'The listener that the client connects to' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l from -d 'The client\'s address' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l name -d 'The host name that it requests over TLS' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l alpn -d 'A protocol that it offers over TLS (ALPN), such as h2; may be repeated' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l protocol -d 'What it speaks, as in `listener.route.protocol`' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l cert -d 'A name in the valid certificate that it shows, such as dns:batch.mesh; may be repeated' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l proxy -d 'The proxy through which it connects, which sends a PROXY header' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l direct -d 'It connects without a proxy to a listener that reads PROXY headers'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from reload" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from reload" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from log-level" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from log-level" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from log-level" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from log-level" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from log-level" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from log-level" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from log-level" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l admin -d 'The admin interface, such as http://127.0.0.1:9900 or unix:/run/portcullis/admin.sock' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from drain" -s c -l config -d 'The configuration file that names the admin interface, without --admin' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l token-file -d 'The file of the token; by default the token is in the variable PORTCULLIS_TOKEN, or where the configuration says' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l roots -d 'The file of the authorities, in PEM, for an interface with TLS; by default those of the system' -r -F
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l timeout -d 'How long to wait for the interface, such as 5s; a reload may take up to 30 s' -r
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l wait -d 'Prints what is waited for until the program has ended; ends with 3 if connections were force-closed'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l json -d 'Prints what the interface answers, in JSON'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "status" -d 'Shows the program as a whole'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "ready" -d 'Ends with 0 if the program should get connections, else says why not and ends with 1'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "listeners" -d 'Lists the listeners, or changes one'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "connections" -d 'Lists the connections that are open'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "close" -d 'Closes one connection, or all that a filter names'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "endings" -d 'Lists the connections that have ended last, and why'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "backends" -d 'Lists the backends and their servers, or changes a server'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "certificates" -d 'Lists the certificates that listeners show'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Prints what would become of a client now, guard by guard, and which rule decides'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "reload" -d 'Reads the configuration file again'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "log-level" -d 'Changes the level of the log, until the configuration changes it or the program ends; an upgrade keeps it'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Shuts the program down gracefully'
complete -c portcullis -n "__fish_portcullis_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c portcullis -n "__fish_portcullis_using_subcommand echo" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand daytime" -s h -l help -d 'Print help'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "demo" -d 'Shows a gate before services of its own, in memory: TLS, routing by name, limits, health'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "run" -d 'Runs the listeners of a configuration file until SIGTERM or Ctrl-C'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "check" -d 'Prints every problem of a configuration file, with line and column'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "plan" -d 'Prints what a reload of a configuration file would do, key by key'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "explain" -d 'Prints what would become of a client, guard by guard, and which rule decides'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "forward" -d 'Forwards one listener to one or more servers, without a file'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "ctl" -d 'Shows and changes a running program, through its admin interface'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "echo" -d 'Sends back what it receives'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "daytime" -d 'Sends the time and closes (RFC 867)'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and not __fish_seen_subcommand_from demo run check plan explain forward ctl echo daytime help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "status" -d 'Shows the program as a whole'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "ready" -d 'Ends with 0 if the program should get connections, else says why not and ends with 1'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "listeners" -d 'Lists the listeners, or changes one'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "connections" -d 'Lists the connections that are open'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "close" -d 'Closes one connection, or all that a filter names'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "endings" -d 'Lists the connections that have ended last, and why'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "backends" -d 'Lists the backends and their servers, or changes a server'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "certificates" -d 'Lists the certificates that listeners show'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "explain" -d 'Prints what would become of a client now, guard by guard, and which rule decides'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "reload" -d 'Reads the configuration file again'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "log-level" -d 'Changes the level of the log, until the configuration changes it or the program ends; an upgrade keeps it'
complete -c portcullis -n "__fish_portcullis_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "drain" -d 'Shuts the program down gracefully'
