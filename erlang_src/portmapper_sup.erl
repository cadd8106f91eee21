%% @doc The supervisors. The one that the application stands on has no name and
%% only restarts the other, `portmapper_sup', so that the death of any named
%% process leaves the application running.
-module(portmapper_sup).
-behaviour(supervisor).

-export([start_link/0, start_link/1]).
-export([init/1]).

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    start_result(supervisor:start_link(?MODULE, top)).

%% @private
-spec start_link(services) -> {ok, pid()} | {error, term()}.
start_link(services) ->
    start_result(supervisor:start_link({local, ?MODULE}, ?MODULE, services)).

%% No child is `ignore', and so no supervisor is.
-spec start_result(supervisor:startlink_ret()) -> {ok, pid()} | {error, term()}.
start_result({ok, _Pid} = Ok) -> Ok;
start_result({error, _Reason} = Error) -> Error.

%% @private
-spec init(top | services) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(top) ->
    Services = #{
        id => ?MODULE,
        start => {?MODULE, start_link, [services]},
        type => supervisor
    },
    {ok, {#{intensity => 10, period => 1}, [Services]}};
init(services) ->
    Server = #{id => portmapper_server, start => {portmapper_server, start_link, []}},
    {ok, {#{intensity => 10, period => 1}, [Server]}}.
