%% @doc The supervisor. What listens is started anew with what it listens to.
-module(fleet_sup).
-behaviour(supervisor).

-export([start_link/1]).
-export([init/1]).

-spec start_link(portmapper_discovery:options()) -> {ok, pid()} | {error, term()}.
start_link(Options) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, Options).

-spec init(portmapper_discovery:options()) ->
    {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Options) ->
    Log = #{id => fleet_log, start => {fleet_log, start_link, []}},
    {ok, {#{strategy => rest_for_one}, [portmapper_discovery:child_spec(Options), Log]}}.
