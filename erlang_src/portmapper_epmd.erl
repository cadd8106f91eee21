%% @doc The `-epmd_module' of a distributed node: its client of port mappers, in the
%% place of OTP's `erl_epmd', and where it is configured so, the port mapper of the host.
%%
%% ```
%% erl -name n1@192.0.2.1 -start_epmd false -epmd_module portmapper_epmd -portmapper epmd_mode auto
%% '''
%%
%% `epmd_mode' is a key of the application environment of `portmapper', or else the
%% variable `PORTMAPPER_EPMD_MODE':
%% <dl>
%%   <dt>`client'</dt><dd>registers as `erl_epmd' does, but again as soon as a port mapper
%%     is there that was lost; the default</dd>
%%   <dt>`host'</dt><dd>this VM is the port mapper of the host; it does not start if the
%%     port is taken</dd>
%%   <dt>`auto'</dt><dd>`host' where the port is free, else `client'; whenever the
%%     port mapper of the host is lost, one of those that were its clients takes its
%%     place</dd>
%% </dl>
%% Kernel starts this module before any other application; then the environment is that
%% of the system configuration (`-config', a release's `sys.config') and of the command
%% line. The application `portmapper' need not be started; if it is, it shares the
%% server.
%%
%% All functions but `names/2' are called by OTP, and return what `erl_epmd' returns. What it
%% waits for without end, these wait for ten seconds at the most.
-module(portmapper_epmd).

-export([
    start_link/0,
    register_node/2, register_node/3,
    port_please/2, port_please/3,
    names/0, names/1, names/2,
    address_please/3,
    listen_port_please/2
]).

-include_lib("kernel/include/inet.hrl").

-type host() :: atom() | string() | inet:ip_address().

%% Milliseconds for what OTP waits for as long as it takes.
-define(PATIENCE, 10_000).
%% The version that is assumed of nodes that no port mapper is asked about.
-define(LOWEST_VERSION, 5).

%% @private
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    portmapper_epmd_sup:start_link().

%% @equiv register_node(Name, Port, inet)
-spec register_node(Name :: atom() | string(), inet:port_number()) ->
    {ok, Creation :: integer()} | {error, term()}.
register_node(Name, Port) ->
    register_node(Name, Port, inet).

%% @doc Registers this node. It stays registered until {@link net_kernel:stop/0}.
-spec register_node(Name, inet:port_number(), Driver) ->
    {ok, Creation :: integer()} | {error, term()}
when
    Name :: atom() | string(), Driver :: inet_tcp | inet6_tcp | inet | inet6.
register_node(Name, Port, inet_tcp) -> register_node(Name, Port, inet);
register_node(Name, Port, inet6_tcp) -> register_node(Name, Port, inet6);
register_node(Name, Port, Family) -> portmapper_registration:register(Name, Port, Family).

%% @equiv port_please(Name, Host, infinity)
-spec port_please(Name :: atom() | string(), host()) -> portmapper_client:found().
port_please(Name, Host) ->
    port_please(Name, Host, infinity).

%% @doc Looks a node up, within so many milliseconds in all.
-spec port_please(Name :: atom() | string(), host(), timeout()) -> portmapper_client:found().
port_please(Name, Host, Timeout) ->
    case listen_port_please(Name, Host) of
        {ok, 0} ->
            Limit = min(Timeout, ?PATIENCE),
            Begun = erlang:monotonic_time(millisecond),
            case address(Host, Limit) of
                {ok, Address} ->
                    Left = max(0, Begun + Limit - erlang:monotonic_time(millisecond)),
                    Port = portmapper_config:epmd_port(),
                    portmapper_client:port_please(Name, Address, Port, Left);
                {error, _} ->
                    noport
            end;
        {ok, Port} ->
            {port, Port, ?LOWEST_VERSION}
    end.

%% @doc The nodes of this host.
-spec names() -> portmapper_client:names() | {error, inet:posix()}.
names() ->
    {ok, Host} = inet:gethostname(),
    names(Host).

%% @doc The nodes of a host.
-spec names(host()) -> portmapper_client:names() | {error, inet:posix()}.
names(Host) ->
    case address(Host, ?PATIENCE) of
        {ok, Address} ->
            portmapper_client:names(Address, portmapper_config:epmd_port(), ?PATIENCE);
        {error, _} = Error ->
            Error
    end.

%% @doc Those of them that match a pattern, as in {@link portmapper:names/1}. A port mapper of
%% this kind is asked for no others. `{error, address}': there is none, or it does not
%% answer as one.
%%
%% ```
%% 1> portmapper_epmd:names("web*", "db.example").
%% {ok,[{"web1",40123}]}
%% '''
-spec names(Glob :: portmapper:name(), host()) -> portmapper_client:names() | {error, inet:posix()}.
names(Glob, Host) ->
    case address(Host, ?PATIENCE) of
        {ok, Address} ->
            Where = #{host => Address, port => portmapper_config:epmd_port(), timeout => ?PATIENCE},
            case portmapper:names(Glob, Where) of
                {ok, Nodes} -> {ok, [{binary_to_list(Name), Port} || {Name, Port} <- Nodes]};
                {error, timeout} -> {error, etimedout};
                {error, too_long} -> {error, emsgsize};
                {error, _} -> {error, address}
            end;
        {error, _} = Error ->
            Error
    end.

address(Host, Timeout) when is_atom(Host) ->
    address(atom_to_list(Host), Timeout);
address(Host, Timeout) when is_list(Host) ->
    Family =
        case inet_db:res_option(inet6) of
            true -> inet6;
            false -> inet
        end,
    case inet:gethostbyname(Host, Family, Timeout) of
        {ok, #hostent{h_addr_list = [Address | _]}} -> {ok, Address};
        {error, _} = Error -> Error
    end;
address(Address, _Timeout) ->
    {ok, Address}.

%% @doc The address of a host.
-spec address_please(Name :: string(), host(), inet | inet6) ->
    {ok, inet:ip_address()} | {error, inet:posix()}.
address_please(Name, Host, Family) ->
    erl_epmd:address_please(Name, Host, Family).

%% @doc The port that all nodes listen on, so that no port mapper is asked about them:
%% `-erl_epmd_port', or kernel's `erl_epmd_node_listen_port'; else 0.
-spec listen_port_please(Name :: atom() | string(), host()) -> {ok, inet:port_number()}.
listen_port_please(Name, Host) ->
    erl_epmd:listen_port_please(Name, Host).
