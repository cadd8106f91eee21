%% @doc The supervisors. The one that the application stands on has no name and
%% only restarts the other, `portmapper_sup', so that the death of any named
%% process leaves the application running.
-module(portmapper_sup).
-behaviour(supervisor).

-export([start_link/0, start_link/1]).
-export([start_child/2]).
-export([init/1]).

%% Milliseconds between two starts of a child. The server goes on without its
%% processes, so one that dies again and again does not end the application:
%% it is restarted, but no faster than this.
-define(PAUSE, 100).
%% More than the pause allows (supervisors count whole seconds).
-define(INTENSITY, 30).

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
-spec start_child(module(), list()) -> supervisor:startchild_ret() | ignore.
start_child(Module, Arguments) ->
    ok = pause(get({started, Module})),
    Started = apply(Module, start_link, Arguments),
    _ = put({started, Module}, erlang:monotonic_time(millisecond)),
    Started.

pause(undefined) -> ok;
pause(Last) -> timer:sleep(max(0, Last + ?PAUSE - erlang:monotonic_time(millisecond))).

%% @private
-spec init(top | services) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(top) ->
    {ok, {flags(), [child(?MODULE, supervisor, [services])]}};
init(services) ->
    Workers = [portmapper_server, portmapper_events],
    {ok, {flags(), [child(Module, worker, []) || Module <- Workers]}}.

flags() ->
    #{intensity => ?INTENSITY, period => 1}.

child(Module, Type, Arguments) ->
    #{
        id => Module,
        start => {?MODULE, start_child, [Module, Arguments]},
        type => Type,
        %% Who is suspended while the code of this module is replaced.
        modules => [Module]
    }.
